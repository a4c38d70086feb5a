"""Tools started from the page use no file or folder that the page may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.browse import Outside
from webui.settings import Settings
from webui.tasks import config_of

HUB = "SmilingWolf/wd-vit-tagger-v3"
MODELS = ("caption.wd14", "caption.sentences", "caption.blip2", "caption.git")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("img/model", "private"):
        (tmp_path / name).mkdir(parents=True)
    return Settings("127.0.0.1", 0, tmp_path / "data", tmp_path / "data" / "runs", (), (tmp_path / "img",))


@pytest.mark.parametrize("job", MODELS)
def test_a_model_s_folder_must_be_one_that_the_page_may_use(
    job: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model(*names: str) -> str | list[str]:
        given = [*names] if job == "caption.wd14" else names[-1]
        options = config_of(job, {"folder": str(tmp_path / "img"), "model": given}, settings)["options"]
        return options["model"]

    (tmp_path / "img" / "link").symlink_to(tmp_path / "private")
    monkeypatch.chdir(tmp_path)
    outside = (tmp_path / "private", tmp_path / "none", tmp_path / "img" / "link", "~/none", "../none", "./none")
    for name in (*map(str, outside), "private", "/etc/passwd"):
        with pytest.raises(Outside, match="model: "):
            model(HUB, name)
    known = str(tmp_path / "img" / "model")
    assert model(known, HUB) == ([known, HUB] if job == "caption.wd14" else HUB)
    assert model(f"{known}/../model") == ([known] if job == "caption.wd14" else known)


def test_a_server_s_model_is_a_name_alone(tmp_path: Path, settings: Settings) -> None:
    options = {"folder": str(tmp_path / "img"), "url": "http://localhost/v1", "model": "/models/seer"}
    assert config_of("caption.endpoint", options, settings)["options"]["model"] == "/models/seer"
