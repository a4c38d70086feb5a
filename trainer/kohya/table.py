"""What is known about the Kohya GUI's files, as data: keys of other families and types, old names, tabs, words.

`FRESH` is what its LoRA tab (release 26, July 2026) saves from a fresh page: all 287 keys with their first values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.optimizer_kinds import KINDS

FRESH: dict[str, Any] = json.loads((Path(__file__).parent / "fresh.json").read_text("utf-8"))

SECRETS = ("huggingface_token", "wandb_api_key")

FAMILIES = {
    "flux1_checkbox": "Flux.1",
    "sd3_checkbox": "Stable Diffusion 3",
    "hunyuan_image_checkbox": "HunyuanImage",
    "anima_checkbox": "Anima",
    "lumina_checkbox": "Lumina",
    "v2": "Stable Diffusion 2",
}
"""Check boxes of families that are not here, in the order in which the GUI obeys them; `sdxl` outranks them all."""

FAMILY_TYPES = {
    "Flux1": "Flux.1", "Flux1 OFT": "Flux.1", "HunyuanImage-2.1": "HunyuanImage", "Anima": "Anima", "Lumina": "Lumina",
}  # fmt: skip
_FLUX = """flux1_checkbox fp8_base_unet t5xxl_lr train_lora_ggpo ggpo_sigma ggpo_beta flux1_cache_text_encoder_outputs
    flux1_cache_text_encoder_outputs_to_disk model_type ae clip_l t5xxl discrete_flow_shift model_prediction_type
    timestep_sampling split_mode t5xxl_max_token_length enable_all_linear guidance_scale apply_t5_attn_mask split_qkv
    train_t5xxl cpu_offload_checkpointing blocks_to_swap show_timesteps show_timesteps_resolution img_attn_dim
    img_mlp_dim img_mod_dim single_dim txt_attn_dim txt_mlp_dim txt_mod_dim single_mod_dim in_dims
    train_double_block_indices train_single_block_indices"""
_SD3 = """clip_g clip_g_dropout_rate logit_mean logit_std mode_scale pos_emb_random_crop_rate save_clip save_t5xxl
    t5xxl_device t5xxl_dtype weighting_scheme"""
FAMILY_KEYS = {
    **dict.fromkeys(_FLUX.split(), "Flux.1"),
    **dict.fromkeys(_SD3.split(), "Stable Diffusion 3"),
    **{
        key: family
        for key in FRESH
        for start, family in (("sd3_", "Stable Diffusion 3"), ("hunyuan_", "HunyuanImage"), ("anima_", "Anima"))
        if key.startswith(start)
    },
    **{key: "Lumina" for key in FRESH if key.startswith("lumina_")},
}

DEAD = {
    "model_list": "a hidden box that no training reads",
    "lowvram": "saved, but never used",
    "train_blocks": "saved, but never used",
    "stop_text_encoder_training": "the LoRA trainer has no such option",
    **dict.fromkeys(
        ("mem_eff_save", "single_blocks_to_swap", "double_blocks_to_swap"), "only full fine-tunes of Flux read it"
    ),
    "disable_mmap_load_safetensors": "models are read a tensor at a time, which needs no setting",
    **dict.fromkeys(("no_token_padding", "block_lr"), "not an option of LoRA training"),
    **dict.fromkeys(("save_as_bool", "save_as", "headless", "print_only"), "the page's own bookkeeping"),
}
"""Keys that have no effect in the Kohya GUI itself."""

SAME = {
    "cache_latents_to_disk": "encoded pictures are always kept on disk, shared between trainings",
    "skip_cache_check": "cached pictures are found by their content, without a check of each file",
    "save_state": "states to resume from are always kept: save.state_minutes says how often",
    "save_state_on_train_end": "the last state is always kept",
    "persistent_data_loader_workers": "workers always stay",
    "highvram": "models stay on the GPU",
    "mem_eff_attn": "sdpa and xformers are memory efficient attention",
    "multi_gpu": "several processes take a GPU each",
    "main_process_port": "a free port is found",
}
"""Keys whose work is always done here, whatever they say."""

_ACCELERATE = "what starts the processes says it: `accelerate launch ... -m trainer train CONFIG` takes it too"
_TORCH = "torch.compile is not switched here"
_WANDB = "the loss curve goes to TensorBoard files and the page alone"
_HUB = "nothing is uploaded: upload the finished file"
UNSUPPORTED = {
    **dict.fromkeys(("num_machines", "gpu_ids", "extra_accelerate_launch_args"), _ACCELERATE),
    **dict.fromkeys(("dynamo_backend", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic"), _TORCH),
    **dict.fromkeys(("log_with", "wandb_run_name", "log_tracker_config", "log_config"), _WANDB),
    **dict.fromkeys(
        (
            *("huggingface_repo_id", "huggingface_repo_type", "huggingface_repo_visibility"),
            *("huggingface_path_in_repo", "save_state_to_huggingface", "async_upload"),
        ),
        _HUB,
    ),
}
"""Keys that change what happens around a training, not what is learned; told when they are set."""
HARMLESS = {"log_with": ("tensorboard",), "num_machines": (1,)}

_RESUME = (
    "states of sd-scripts cannot be continued here: give the saved LoRA as network_weights, or empty it"
    " (a run of Likeness goes on by `train --resume` with its folder)"
)
REFUSED = {
    "train_inpainting": "inpainting models are still to come: set it to false",
    **dict.fromkeys(("resume", "resume_from_huggingface"), _RESUME),
}
"""Keys that change what is learned in a way that is not here: better no training than another one."""

LEGACY = {
    "lora_network_weights": "network_weights",
    "conv_dims": "conv_block_dims",
    "conv_alphas": "conv_block_alphas",
    "stop_text_encoder_training_pct": "stop_text_encoder_training",
    "caption_extention": "caption_extension",
    "cache_latent": "cache_latents",
    "cache_text_encoder_outputs": "sdxl_cache_text_encoder_outputs",
    "no_half_vae": "sdxl_no_half_vae",
    "sdxl_min_timestep": "min_timestep",
    "sdxl_max_timestep": "max_timestep",
    "wandb_api_key_textbox": "wandb_api_key",
}
"""Old names of keys; `use_8bit_adam`, `use_wandb`, `use_wandb_checkbox`, `network_train`, `locon` change value too."""
LEGACY_VALUES = ("use_8bit_adam", "use_wandb", "use_wandb_checkbox", "network_train", "locon")

MIGRATED: dict[str, int | float] = {
    **dict.fromkeys(("clip_skip", "epoch", "gradient_accumulation_steps", "keep_tokens", "lr_warmup", "seed"), 0),
    **dict.fromkeys(("max_data_loader_n_workers", "max_train_epochs", "max_train_steps", "save_every_n_epochs"), 0),
    **{"caption_dropout_every_n_epochs": 0, "lr_scheduler_num_cycles": 1, "max_token_length": 75},
    **dict.fromkeys(("adaptive_noise_scale", "noise_offset", "learning_rate", "text_encoder_lr", "unet_lr"), 0.0),
    "lr_scheduler_power": 1.0,
}
"""Numbers that old files hold as text, and what the GUI reads where that text is no number."""

ARGUMENTS = {
    "resolution": "max_resolution",
    "optimizer_type": "optimizer",
    "cache_text_encoder_outputs": "sdxl_cache_text_encoder_outputs",
    "no_half_vae": "sdxl_no_half_vae",
    "sample_prompts": "--sample_prompts",
    "sdpa": "xformers",
}
"""Arguments of sd-scripts whose key in the GUI has another name; `sample_prompts` is a file there, and text here."""

OPTIMIZERS = {
    **{kind.name.lower(): word for word, kind in KINDS.items() if word != "pytorch_optimizer"},
    **{word: word for word in KINDS if word != "pytorch_optimizer"},
    "dadaptation": "dadaptadampreprint",
    "prodigyplusschedulefree": "prodigyplus",
}
"""Kohya's optimizers in lower case, and ours; two names of one thing are there."""
INERT: dict[str, tuple[Any, ...]] = {
    **{"decouple": (True,), "amsgrad": (False,), "fsdp_in_use": (False,), "slice_p": (1,), "maximize": (False,)},
    **dict.fromkeys(("fused", "foreach", "capturable"), (True, False, None)),
    **dict.fromkeys(("log_every", "prodigy_steps", "dampening"), (0,)),
    **dict.fromkeys(("use_cautious", "use_grams", "use_adopt", "use_orthograd", "use_focus"), (False,)),
    **dict.fromkeys(("split_groups_mean", "fused_back_pass", "stochastic_rounding", "ams_bound"), (False,)),
    **dict.fromkeys(("use_schedulefree", "factored_fp32", "nesterov", "weight_decouple"), (True,)),
    **{"weight_lr_power": (2,), "weight_decay_by_lr": (True,), "fixed_decay": (False,), "eps1": (1e-30,)},
    **{"eps2": (1e-16,), "silent_sgd_phase": (True,)},
}
"""Arguments of optimizers that change nothing at these values."""

SCHEDULES = (
    *("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "adafactor"),
    *("piecewise_constant", "cosine_with_min_lr", "inverse_sqrt", "warmup_stable_decay"),
)
SCHEDULE_ARGUMENTS = {
    "cosine_with_restarts": {"num_cycles": "lr_scheduler_num_cycles"},
    "polynomial": {"power": "lr_scheduler_power"},
    "cosine_with_min_lr": {"min_lr_rate": "lr_scheduler_min_lr_ratio"},
    "inverse_sqrt": {"timescale": "lr_scheduler_timescale"},
    "warmup_stable_decay": {"min_lr_ratio": "lr_scheduler_min_lr_ratio", "num_decay_steps": "lr_decay_steps"},
}
"""Words of lr_scheduler_args, by schedule, and the keys that say the same."""

TABS = {
    "LECO": ("prompts_file", "leco_denoise_guidance_scale", "max_denoising_steps"),
    "Anima LLLite": ("lllite_cond_dim", "lllite_mlp_dim", "lllite_multiplier", "cond_emb_dim", "conditioning_data_dir"),
    "Textual Inversion": ("token_string", "init_word", "num_vectors_per_token"),
    "Finetuning": (
        *("image_folder", "train_dir", "caption_metadata_filename", "latent_metadata_filename", "dataset_repeats"),
        *("generate_caption_database", "generate_image_buckets", "train_text_encoder", "use_latent_files"),
    ),
}
"""Keys by which the files of other training tabs are known."""
LORA_KEYS = {
    *("LoRA_type", "network_dim", "network_alpha", "unet_lr", "text_encoder_lr", "network_weights", "network_dropout"),
    *("lora_network_weights", "network_train", "conv_dim"),
}
DREAMBOOTH_KEYS = {
    *("learning_rate_te", "learning_rate_te1", "learning_rate_te2", "fused_backward_pass", "fused_optimizer_groups"),
    *("flux1_clip_l", "flux1_t5xxl", "flux_fused_backward_pass", "blockwise_fused_optimizers", "no_token_padding"),
    *("disable_mmap_load_safetensors", "stop_text_encoder_training", "stop_text_encoder_training_pct"),
}
"""Keys of the DreamBooth tab; some stand in LoRA files too, so they count only where no key of LORA_KEYS does."""
