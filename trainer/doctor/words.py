"""What is wrong with captions and tags: missing, empty, too long, contradictory, without the trigger, odd files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from trainer.data.folders import Folder, read_caption
from trainer.data.pictures import PictureError, plain
from trainer.doctor.finding import Cure, Finding, aside, several
from trainer.doctor.options import Doctor
from trainer.tags import groups
from trainer.tags.captions import CaptionSet, Picture
from trainer.tags.kinds import among, kind
from trainer.tags.tag import bare

WATERMARK = (
    "watermark, *watermark, signature, artist name, username, *username, web address, logo, *logo, dated, text, *text, "
    "text *, copyright*, *speech bubble, subtitled, subtitles, patreon*, qr code, barcode"
)
PEOPLE = (
    "?girls, ??girls, ?boys, ??boys, multiple girls, multiple boys, couple, crowd, group, people, several people, "
    "everyone, *others, two people, three people"
)
NO_FACE = (
    "from behind, facing away, back view, head out of frame, face out of frame, out of frame head, cropped head, "
    "no face, faceless, faceless *, covered face, covering face, covering own face, hidden face, lower body"
)
EYES = (
    "closed eyes, one eye closed, eyes closed, half-closed eyes, covered eyes, covering eyes, covering own eyes, "
    "hair over eyes, eyes out of frame, bad eyes, cross-eyed, blindfold, wink, blinking"
)
COSTUME = (
    "*dress, *uniform, kimono, * kimono, yukata, armor, * armor, armour, *costume, cosplay, * cosplay, *suit, "
    "bikini, * bikini, *swimsuit, hoodie, * hoodie, *jacket, *coat, robe, * robe, bathrobe, cape, * cape, *cloak, "
    "*gown, *leotard, *outfit, hat, * hat, *helmet, *mask, crown, * crown, *apron"
)
LARGEST_COSTUME = 0.25
"""Of the pictures may show one costume, if it is to be kept apart from the person."""
FEW = 8
"""Pictures, below which a share of them means little."""
CLASSES = (
    "style, art, person, people, character, object, concept, images, img, pictures, photos, dataset, data, "
    "face, faces, body, bodies"
)
"""Words of folders that are no trigger."""


@dataclass(frozen=True)
class Texts:
    """All captions of a data set, and what is to be known of them."""

    data: CaptionSet
    options: Doctor

    @cached_property
    def tags(self) -> dict[str, list[str]]:
        """The tags of each picture by its name, weights and escapes aside."""
        return {self.name(picture): list(map(bare, self.data.caption(picture).tags)) for picture in self.data.pictures}

    def name(self, picture: Picture) -> str:
        """A picture's path in the data set."""
        return picture.path.relative_to(self.data.folder).as_posix()

    def trigger(self, folder: Folder) -> str:
        """The trigger word of a folder's pictures: given, else of the folder's name, else what most captions begin
        with; empty when there is none. A word that every model knows is none.
        """
        if given := self.options.trigger.strip():
            return given
        named = folder.words.split(",")[0].split()[:1] if is_numbered(folder) else []
        words = [*named, self._usual]
        return next((word for word in words if kind(word) != "subject" and not among(word, CLASSES)), "")

    @cached_property
    def _usual(self) -> str:
        """What most captions begin with."""
        usual, first = self.data.trigger(), [tags[0] for tags in self.tags.values() if tags]
        return usual if 2 * first.count(usual) > len(first) else ""

    def cure(self, do: str, label: str, pictures: Sequence[str], **arguments: object) -> Cure:
        """A cure of captions."""
        return Cure(do, label, pictures, {**arguments, "caption_extension": self.options.caption_extension})


def is_numbered(folder: Folder) -> bool:
    """Whether a folder's name begins with its repeats, as `24_zk9 woman` does; else its words are any folder's."""
    return folder.name.split("_")[0].strip().isdecimal()


def caption_findings(texts: Texts) -> list[Finding]:
    """Everything about captions, of pictures that were opened and of others alike."""
    return [
        finding
        for part in (_missing, _files, _too_long, _without_trigger, _contradictions, _shared)
        for finding in part(texts)
    ]


def tag_findings(texts: Texts) -> list[Finding]:
    """What tags say about pictures: watermarks, and a costume that most pictures show."""
    marked = tagged(texts, WATERMARK)
    found: list[Finding] = []
    if marked:
        title = several(len(marked), "picture has a watermark or text", "pictures have a watermark or text")
        why = "letters are learned like a face is: crop or repaint them, or set the pictures aside (by their tags)"
        cures = [aside([*marked], extension=texts.options.caption_extension)]
        found.append(Finding("watermark", "care", title, why, [*marked], marked, cures=cures))
    return [*found, *_costumes(texts)]


def tagged(texts: Texts, patterns: str) -> dict[str, str]:
    """The pictures with a tag that is among patterns, and which."""
    named = {name: [tag for tag in tags if among(tag, patterns)] for name, tags in texts.tags.items()}
    return {name: f"tagged {plain(', '.join(tags), 80)}" for name, tags in named.items() if tags}


def people(texts: Texts) -> dict[str, str]:
    """The pictures whose tags say that there are several people: one tag for many, or a woman and a man."""
    found = tagged(texts, PEOPLE)
    for name, tags in texts.tags.items():
        both = [next((tag for tag in tags if among(tag, patterns)), "") for patterns in ("1girl", "1boy")]
        if all(both) and name not in found:
            found[name] = f"tagged {' and '.join(both)}"
    return found


def _missing(texts: Texts) -> Iterator[Finding]:
    """No caption, and a caption without words."""
    by_kind: dict[bool, list[Picture]] = {True: [], False: []}
    for picture in texts.data.pictures:
        caption = texts.data.caption(picture)
        if not caption.locked and not caption.line:
            by_kind[caption.raw is None].append(picture)
    for none, pictures in by_kind.items():
        if not pictures:
            continue
        names = [texts.name(picture) for picture in pictures]
        folder_words = {picture.folder.words for picture in pictures}
        instead = (
            f"the folder's words '{plain(', '.join(sorted(folder_words)), 60)}'" if any(folder_words) else "no words"
        )
        words = {texts.options.trigger.strip()} if texts.options.trigger.strip() else folder_words
        cures = [
            texts.cure("write_missing", f"Write '{plain(word, 60)}'", own, words=word)
            for word in sorted(filter(None, words))
            if (own := [texts.name(p) for p in pictures if texts.options.trigger.strip() or p.folder.words == word])
        ]
        if none:
            title = several(len(names), "picture has no caption", "pictures have no caption")
            severity = "hint" if all(folder_words) else "care"
            yield Finding("no_caption", severity, title, f"trained with {instead}", names, cures=cures)
        else:
            title = several(len(names), "caption is empty", "captions are empty")
            yield Finding("empty_caption", "care", title, "trained without any words", names, cures=cures)


def _files(texts: Texts) -> Iterator[Finding]:
    """Captions that cannot be read, so that training leaves their pictures out, and captions read otherwise."""
    lost: dict[str, str] = {}
    odd: dict[str, str] = {}
    for picture in texts.data.pictures:
        caption, name = texts.data.caption(picture), texts.name(picture)
        if caption.locked:
            lost[name] = f"{plain(picture.file.name)}: {caption.locked}"
        elif caption.raw is not None:
            try:
                changes = read_caption(picture.file)[1]
            except PictureError as error:
                lost[name] = str(error)
                continue
            if kept := [f"{what}: {done}" for what, done in changes if what != "an empty caption"]:
                odd[name] = "; ".join(kept)
    if lost:
        title = several(len(lost), "caption cannot be read", "captions cannot be read")
        why = "training leaves these pictures out: mend the file, or remove it"
        yield Finding("caption_unread", "bad", title, why, [*lost], lost)
    if odd:
        title = several(len(odd), "caption is not plain text", "captions are not plain text")
        why = "trained as told here; the tag editor saves plain UTF-8 of one line"
        yield Finding("caption_odd", "hint", title, why, [*odd], odd)


def _too_long(texts: Texts) -> Iterator[Finding]:
    limit = texts.options.max_tokens
    counts = zip(texts.data.pictures, texts.data.tokens(texts.data.pictures), strict=True)
    long = {texts.name(picture): f"{count} tokens, limit {limit}" for picture, count in counts if count > limit}
    if long:
        title = f"{several(len(long), 'caption has', 'captions have')} more than {limit} tokens"
        larger = "" if limit == 225 else f", or set Max token length to {150 if limit == 75 else 225}"
        why = f"what comes after token {limit} is never read: take the least of the last tags away{larger}"
        cures = [texts.cure("truncate", f"Shorten to {limit} tokens", [*long], tokens=limit)]
        yield Finding("long_caption", "care", title, why, [*long], long, cures=cures)


def _without_trigger(texts: Texts) -> Iterator[Finding]:
    missing: dict[str, list[str]] = {}
    for picture in texts.data.pictures:
        line, trigger = texts.data.caption(picture).line, texts.trigger(picture.folder)
        if line and trigger and not re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", line, re.I):
            missing.setdefault(trigger, []).append(texts.name(picture))
    for trigger, names in missing.items():
        shown = plain(trigger, 60)
        title = several(len(names), f"caption lacks the trigger {shown}", f"captions lack the trigger {shown}")
        why = "what a picture shows is tied to the words of its caption: without the trigger it teaches nothing of it"
        cures = [texts.cure("add_trigger", f"Put {shown} first", names, trigger=trigger)]
        details = dict.fromkeys(names, f"{shown} is not in its caption")
        yield Finding("trigger", "bad", title, why, names, details, cures=cures)


def _contradictions(texts: Texts) -> Iterator[Finding]:
    by_name: dict[str, list[str]] = {}
    for found in groups.findings(texts.data):
        by_name.setdefault(texts.name(found.picture), []).append(plain(found.reason))
    if by_name:
        title = several(len(by_name), "caption contradicts itself", "captions contradict themselves")
        why = "tags that cannot both be true, or that say the same twice, blur what is learned"
        cures = [texts.cure("fix_captions", "Keep the tag that most pictures have", [*by_name])]
        details = {name: "; ".join(reasons) for name, reasons in by_name.items()}
        yield Finding("contradiction", "care", title, why, [*by_name], details, cures=cures)


def _costumes(texts: Texts) -> Iterator[Finding]:
    """A piece of clothing on more than a quarter of the pictures."""
    total = sum(bool(tags) for tags in texts.tags.values())
    if total < FEW or texts.options.purpose == "style":
        return
    counts = Counter(tag for tags in texts.tags.values() for tag in set(tags) if among(tag, COSTUME))
    for tag, count in counts.most_common():
        if count <= LARGEST_COSTUME * total:
            break
        names = [name for name, tags in texts.tags.items() if tag in tags]
        title = f"{plain(tag, 60)} is on {count} of {total} pictures ({count / total:.0%}, limit {LARGEST_COSTUME:.0%})"
        why = "a costume on more than a quarter of the pictures becomes part of the person: add pictures without it"
        why += ", or, if it should always be worn, bake its tag in"
        yield Finding("costume", "hint", title, why, names)


def _shared(texts: Texts) -> Iterator[Finding]:
    """Pictures of one name and two kinds, which share a caption."""
    owners: dict[str, list[str]] = {}
    for picture in texts.data.pictures:
        owners.setdefault(f"{picture.path.parent}/{picture.path.stem}", []).append(texts.name(picture))
    together = [names for names in owners.values() if len(names) > 1]
    if not together:
        return
    names = [name for group in together for name in group]
    cure = texts.cure("rename", "Rename all but the first, each with a copy of the caption", names)
    title = several(len(together), "name is shared by several pictures", "names are shared by several pictures")
    yield Finding("same_name", "care", title, "both are trained with one caption", names, groups=together, cures=[cure])
