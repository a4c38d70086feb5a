"""Tiny models of the real classes that write words about pictures, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

WORDS = ["a", "photo", "of", "zk9", "woman", "red", "house", "tree", "smiling", "describe", "this", "picture"]
TURN = "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<MARK>{% else %} {{ c['text'] }}"
CHAT = TURN + "{% endif %}{% endfor %}{% endfor %} answer"


SIGNS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
PADS = {"image_pad": "image", "video_pad": "video", "vision_start": "vision_start", "vision_end": "vision_end"}


def tokenizer(image: str = "<image>", **signs: str) -> Any:
    """Whole words as tokens; signs: its special tokens by their names."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "<s>", "</s>", image, *WORDS, "answer"]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=signs,
    )


def wordy(model: Any, *signs: int) -> Any:
    """A model that writes words and no signs."""
    model.generation_config.suppress_tokens = [*range(5), *signs]
    model.generation_config.forced_eos_token_id = None
    return model


def draw_blip(folder: Path) -> None:
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(names), "encoder_hidden_size": 16, "pad_token_id": 0, "bos_token_id": 2}
    text |= {"eos_token_id": 3, "sep_token_id": 3, "max_position_embeddings": 64}
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=16)
    model = BlipForConditionalGeneration(config)
    bias = model.text_decoder.cls.predictions.bias
    bias.data[:5] = -99.0  # words and no signs
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, BertTokenizerFast(vocab={name: i for i, name in enumerate(names)})).save_pretrained(folder)


def draw_llava(folder: Path) -> None:
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    words = tokenizer(image_token="<image>")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **size,
        "model_type": "llama",
        "vocab_size": len(words),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    vision = {**size, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>")
    )
    wordy(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images, words, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=CHAT.replace("<MARK>", "<image>"),
    ).save_pretrained(folder)  # fmt: skip


def draw_florence(folder: Path) -> None:
    from transformers import CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    words = tokenizer(image_token="<image>")
    text = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
    }
    text |= {
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "vocab_size": len(words),
        "max_position_embeddings": 128,
    }
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3, "model_type": "bart"}
    vision = {"embed_dim": [8, 8, 8, 16], "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2], "depths": [1, 1, 1, 1]}
    vision |= {"projection_dim": 16, "image_size": 64}
    config = Florence2Config(
        text_config=text, vision_config=vision, image_token_id=words.convert_tokens_to_ids("<image>")
    )
    wordy(Florence2ForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, words).save_pretrained(folder)


def draw_blip2(folder: Path) -> None:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor

    words = tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "opt", "hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "vocab_size": len(words), "max_position_embeddings": 128, **SIGNS}
    config = Blip2Config(
        vision_config={**size, "image_size": 32, "patch_size": 16},
        qformer_config={**size, "encoder_hidden_size": 16, "vocab_size": 8},
        text_config=text,
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    model.language_model.model.decoder.final_layer_norm.bias.data[0] = 9.0
    model.language_model.model.decoder.embed_tokens.weight.data[:, 0] = 9.0
    model.language_model.model.decoder.embed_tokens.weight.data[:5, 0] = -9.0  # words and no signs
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    Blip2Processor(images, words, num_query_tokens=4).save_pretrained(folder)


def draw_git(folder: Path) -> None:
    from transformers import BertTokenizerFast, CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    words = BertTokenizerFast(vocab={name: i for i, name in enumerate(names)})
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**size, "image_size": 32, "patch_size": 16}
    config = GitConfig(vision_config=vision, vocab_size=len(words), max_position_embeddings=128, **size, **SIGNS)
    wordy(GitForCausalLM(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    GitProcessor(images, words).save_pretrained(folder)


def draw_qwen(folder: Path, kind: str) -> None:
    """A Qwen-VL of a generation; its processor is saved in parts, for to save it whole takes torchvision."""
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    words = tokenizer("<|image_pad|>", image_token="<|image_pad|>")
    words.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in PADS]})
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(f"<|{pad}|>") for pad, name in PADS.items()}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    text |= {"num_key_value_heads": 2, "vocab_size": len(words), **SIGNS}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision: dict[str, Any] = {"depth": 1, "num_heads": 2, "patch_size": 4, "hidden_size": 16}
    if kind == "Qwen2VL":
        vision |= {"embed_dim": 16, "mlp_ratio": 2}
    else:
        vision |= {"out_hidden_size": 16, "intermediate_size": 32}
    if kind == "Qwen3VL":
        vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision, **ids)
    wordy(getattr(transformers, f"{kind}ForConditionalGeneration")(config), *ids.values()).save_pretrained(folder)
    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size=size).save_pretrained(folder)
    told = folder / "preprocessor_config.json"
    told.write_text(told.read_text().replace("ImageProcessorPil", "ImageProcessorFast"))  # as the published ones
    words.chat_template = CHAT.replace("<MARK>", "<|vision_start|> <|image_pad|> <|vision_end|>")
    words.save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    **{"blip": draw_blip, "blip2": draw_blip2, "git": draw_git, "llava": draw_llava, "florence": draw_florence},
    **{kind: partial(draw_qwen, kind=kind) for kind in ("Qwen2VL", "Qwen2_5_VL", "Qwen3VL")},
}
GO_ON = ("blip", "blip2", "git")
CHATTY = [kind for kind in MAKERS if kind == "llava" or "Qwen" in kind]
