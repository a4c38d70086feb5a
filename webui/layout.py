"""What stands where in the LoRA tab, by dotted name, in the order of the Kohya GUI; and the words of its choices."""

from __future__ import annotations

from trainer.optimizer_kinds import KINDS

CONFIGURATION = ("about",)
MODEL = ("model.base", "model.vae", "model.family", "model.prediction", "model.zero_terminal_snr", "network.form")
FOLDERS = (
    *("data.images", "data.reg", "output.folder", "output.logging"),
    *("output.name", "output.comment", "data.repeats", "data.words", "data.metadata", "data.subsets"),
)
BASIC = (
    *("network.type", "network.token", "network.init_word", "network.vectors", "network.template"),
    *("network.preset", "network.filter", "network.on_input", "network.factor", "network.decompose_both"),
    *("network.dora", "network.tucker", "network.scalar", "network.rs_lora", "network.bypass", "network.unit"),
    *("network.constraint", "network.rescaled", "network.train_norm", "network.rank_dropout_scale"),
    *("train.batch", "train.epochs", "save.every_epochs", "captions.extension"),
    *("train.precision", "save.precision", "optimizer.type", "optimizer.lr", "schedule.type"),
    *("network.text_stop", "network.rank", "network.alpha", "data.resolution", "data.buckets"),
)
ADVANCED: dict[str, tuple[str, ...]] = {
    "Speed and memory": (
        *("train.checkpointing", "train.accumulate", "train.attention", "train.full", "network.fused"),
        *("data.cache_latents", "data.cache_text", "train.device", "train.processes", "train.threads", "data.workers"),
        *("memory.fit", "memory.base_weights", "memory.swap", "memory.offload_activations"),
        *("model.vae_precision", "model.vae_batch", "model.vae_slicing", "model.vae_tiling"),
    ),
    "Pictures and buckets": (
        *("data.buckets.smallest", "data.buckets.largest", "data.buckets.step", "data.buckets.no_upscale"),
        *("data.crop", "data.interpolation", "data.background", "data.flip", "data.color_aug"),
    ),
    "Captions": (
        *("captions.shuffle", "captions.keep_tokens", "captions.keep_tokens_separator"),
        *("captions.dropout", "captions.dropout_every_n_epochs", "captions.tag_dropout"),
        *("captions.prefix", "captions.suffix", "captions.separator", "captions.secondary_separator"),
        *("captions.max_tokens", "captions.token_warmup_min", "captions.token_warmup_steps"),
        *("model.clip_skip", "captions.wildcards", "captions.weighted"),
    ),
    "Learning rates and optimizer": (
        *("rates.unet", "rates.text_encoder", "rates.text_encoder_2", "network.block_rates", "train.clip"),
        *("optimizer.betas", "optimizer.eps", "optimizer.weight_decay", "optimizer.clip_threshold"),
        *("optimizer.decay_rate", "optimizer.beta1", "optimizer.beta3", "optimizer.d0", "optimizer.d_coef"),
        *("optimizer.growth_rate", "optimizer.scale_parameter", "optimizer.warmup_init"),
        *("optimizer.bias_correction", "optimizer.safeguard_warmup", "optimizer.name", "optimizer.args"),
        *("optimizer.momentum", "optimizer.alpha", "optimizer.t_alpha", "optimizer.t_beta3", "optimizer.decouple"),
        *("optimizer.no_prox", "optimizer.warmup", "optimizer.later", "optimizer.averaging", "optimizer.d_limiter"),
        *("optimizer.split_groups", "optimizer.factored", "optimizer.stable", "optimizer.speed"),
        *("schedule.warmup", "schedule.cycles", "schedule.power", "schedule.lowest", "schedule.decay"),
        *("schedule.timescale", "schedule.rules", "schedule.period"),
    ),
    "Network": (
        *("network.conv_rank", "network.conv_alpha", "network.dropout", "network.rank_dropout"),
        *(
            "network.module_dropout",
            "network.max_norm",
            "network.start_from",
            "network.rank_from_file",
            "network.average",
        ),
        *("network.loraplus", "network.loraplus_unet", "network.loraplus_text"),
    ),
    "Pivotal tuning": (
        *("pivotal", "pivotal.token", "pivotal.init_word", "pivotal.vectors", "pivotal.rate", "pivotal.stop"),
        *("pivotal.files",),
    ),
    "Blocks": (
        *("network.down_weights", "network.mid_weights", "network.up_weights", "network.zero_threshold"),
        *("network.block_ranks", "network.block_alphas", "network.conv_block_ranks", "network.conv_block_alphas"),
    ),
    "Noise and loss": (
        *("objective.noise.type", "objective.noise.strength", "objective.noise.adaptive", "objective.noise.random"),
        *("objective.noise.iterations", "objective.noise.discount"),
        *("objective.perturbation", "objective.perturbation_random"),
        *("objective.loss.type", "objective.loss.c", "objective.loss.scale", "objective.loss.schedule"),
        *("objective.min_timestep", "objective.max_timestep", "objective.min_snr_gamma", "objective.v_like"),
        *("objective.debiased", "objective.scale_v", "objective.prior_weight", "objective.prior"),
        *("objective.prior_words", "data.alpha_mask", "data.masks"),
    ),
    "Length, saving and seed": (
        *("train.steps", "save.every_steps", "save.every_minutes", "save.keep_last"),
        *("save.state_minutes", "save.state_keep", "seed", "output.log_prefix", "output.log_name"),
    ),
    "Validation": (
        *("validation.share", "validation.folder", "validation.every_epochs", "validation.every_steps"),
        *("validation.timesteps", "validation.pictures"),
    ),
    "Comparison and early stopping": (
        *("compare.afterwards", "compare.every_epochs", "compare.patience", "compare.by"),
        *("compare.questions", "compare.seeds", "compare.steps", "compare.cfg"),
    ),
}
SAMPLES = (
    *("sample.prompts", "sample.file", "sample.every_epochs", "sample.every_steps", "sample.sampler"),
    *("sample.seed", "sample.first"),
)
METADATA = (
    *("output.title", "output.author", "output.license", "output.tags", "output.description", "output.metadata"),
)  # fmt: skip

PLACES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("Configuration file",): CONFIGURATION,
    ("Source model",): MODEL,
    ("Folders",): FOLDERS,
    ("Parameters", "Basic"): BASIC,
    **{("Parameters", "Advanced", title): names for title, names in ADVANCED.items()},
    ("Parameters", "Samples"): SAMPLES,
    ("Parameters", "Metadata"): METADATA,
}
"""Where each option is found: the way to it, and the options there."""

FOLDER_FIELDS = ("data.images", "data.reg", "data.masks", "output.folder", "output.logging", "validation.folder")
"""Paths that are folders; the others are files, or folders that hold a model."""
ENDINGS = {
    "model.base": (".safetensors", ".ckpt"),
    "model.vae": (".safetensors", ".ckpt", ".pt"),
    "network.start_from": (".safetensors", ".pt", ".bin"),  # the last two are embeddings, read without a pickle's code
    "network.filter": (".toml",),
    "sample.file": (".txt",),
    "data.metadata": (".json",),
}
LONG = ("output.description", "sample.prompts", "data.subsets")
"""Texts of several lines."""

WORDS: dict[str, dict[str, str]] = {
    "network.template": {"object": "object template", "style": "style template"},
    "network.type": {
        **{"lora": "Standard", "lora_fa": "LoRA-FA", "ia3": "LyCORIS/iA3", "boft": "LyCORIS/BOFT"},
        **{"diag_oft": "LyCORIS/Diag-OFT", "dylora": "LyCORIS/DyLoRA", "glora": "LyCORIS/GLoRA"},
        **{"locon": "LyCORIS/LoCon", "loha": "LyCORIS/LoHa", "lokr": "LyCORIS/LoKr"},
        **{"native": "LyCORIS/Native Fine-Tuning", "embedding": "Textual inversion", "full_model": "The model itself"},
    },
    "network.preset": {"kohya": "kohya (the layers of a LoRA)"},
    "pivotal.files": {"both": "In the LoRA and beside it", "bundled": "In the LoRA", "apart": "Beside the LoRA"},
    "optimizer.type": {word: kind.name.rpartition(".")[2] for word, kind in KINDS.items()},
    "schedule.type": {"rex": "REX"},
    "memory.base_weights": {"same": "As mixed precision", "nf4": "nf4 (4 bits)"},
    "model.family": {"sd15": "SD1.5", "sdxl": "SDXL"},
    "model.prediction": {"v": "v-prediction"},
    "objective.noise.type": {"plain": "Plain", "offset": "Original (noise offset)", "multires": "Multires"},
    "objective.prior": {
        "pictures": "What its pictures show",
        "model": "How the base model sees its pictures",
        "trained": "How the base model sees the trained pictures (needs none of its own)",
    },
    "compare.by": {"score": "Score of the pictures", "held_out": "Held-out loss"},
    "objective.loss.type": {"l2": "L2", "l1": "L1", "huber": "Huber", "smooth_l1": "Smooth L1"},
}
"""Choices that are called otherwise than in a file."""
PICKS = (
    ("pocket, shipped with Likeness", "pocket"),
    ("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-xl-base-1.0"),
)
"""Base models in Model Quick Pick, before those in the folders of models: what is shown, and what is taken."""
