"""What is trained: the network, and how fast each of its parts learns."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from trainer.config.embedding import Embedding
from trainer.config.full import Full
from trainer.config.parts import DropoutRate, IsPath, Kohya, Part, Rate, Text

Ratio = Annotated[float, Field(ge=1)] | None
Preset = Literal[
    "attn-mlp", "attn-only", "full", "full-lin", "unet-transformer-only", "unet-convblock-only", "kohya"
]  # fmt: skip
PRESETS: tuple[str, ...] = get_args(Preset)


def _numbers(value: Any) -> Any:
    """Numbers with commas between, as the Kohya GUI writes them; one number is a list of one."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",")] if value.strip() else None
    return [value] if isinstance(value, (int, float)) else value


def _kind(value: Any) -> Any:
    """A network without a `type` is a LoRA, as in files older than the other types."""
    return {"type": "lora", **value} if isinstance(value, dict) else value


Ranks = Annotated[tuple[Annotated[int, Field(ge=0, le=1024)], ...] | None, BeforeValidator(_numbers)]
Alphas = Annotated[tuple[Annotated[float, Field(gt=0, le=1024)], ...] | None, BeforeValidator(_numbers)]


class Starting(Part):
    """What all networks have."""

    type: str
    start_from: Annotated[Text, Kohya("network_weights", "Network weights"), IsPath()] = None
    """Go on from this file of the same kind of network."""


class Sized(Starting):
    """What all networks have that are smaller than the layers they change."""

    rank: Annotated[int, Field(ge=1, le=1024), Kohya("network_dim", "Network Rank (Dimension)")] = 16
    """How much the network can hold; 8 to 32 suits a face."""
    conv_rank: Annotated[int | None, Field(ge=1, le=1024), Kohya("conv_dim", "Convolution Rank (Dimension)")] = None
    """Rank of the 3x3 convolutions; empty leaves them out in a LoRA, and takes the common rank in LyCORIS's types."""
    module_dropout: Annotated[DropoutRate, Kohya("module_dropout", "Module dropout")] = 0.0
    """Chance that a whole module is left out."""


class Scaled(Sized):
    """What networks have whose change is scaled by alpha / rank."""

    alpha: Annotated[float, Field(gt=0, le=1024), Kohya("network_alpha", "Network Alpha")] = 16.0
    """How much the change counts: in full when this equals the rank, half at half the rank."""
    conv_alpha: Annotated[float, Field(gt=0, le=1024), Kohya("conv_alpha", "Convolution Alpha")] = 1.0
    """The change of the 3x3 convolutions is scaled by this / their rank."""


class Limited(Starting):
    """A limit on the norm of each module's change."""

    max_norm: Annotated[Annotated[float, Field(gt=0)] | None, Kohya("scale_weight_norms", "Scale weight norms")] = None
    """Scale a module down whenever the norm of its change grows beyond this."""


class Plus(Starting):
    """A rate of their own for the up matrices."""

    loraplus: Annotated[Ratio, Kohya("loraplus_lr_ratio", "LoRA+ learning rate ratio")] = None
    """The up matrices learn this many times faster (LoRA+, Hayou et al. 2024, arXiv 2402.12354)."""
    loraplus_unet: Annotated[Ratio, Kohya("loraplus_unet_lr_ratio", "LoRA+ Unet learning rate ratio")] = None
    """LoRA+ ratio of the UNet; empty takes the common one."""
    loraplus_text: Annotated[
        Ratio, Kohya("loraplus_text_encoder_lr_ratio", "LoRA+ Text Encoder learning rate ratio")
    ] = None
    """LoRA+ ratio of the text encoders; empty takes the common one."""


class Blocks(Scaled, Limited, Plus):
    """LoRA with ranks and rates for each block of the UNet; numbers and names are those of sd-scripts."""

    dropout: Annotated[DropoutRate, Kohya("network_dropout", "Network dropout")] = 0.0
    """Chance that a neuron between down and up is left out."""
    rank_dropout: Annotated[DropoutRate, Kohya("rank_dropout", "Rank dropout")] = 0.0
    """Chance that a rank is left out for a picture; of LyCORIS's types, a row of a module's change."""
    rank_from_file: Annotated[bool, Kohya("dim_from_weights", "DIM from weights")] = False
    """Take ranks and alphas from the file that training starts from."""
    down_weights: Annotated[Text, Kohya("down_lr_weight", "Down LR weights")] = None
    """Each down block's rate as a share of the UNet's, 12 numbers (SDXL: 9), or a curve such as `sine` or `zeros+.5`;
    0 leaves a block out."""
    mid_weights: Annotated[Text, Kohya("mid_lr_weight", "Mid LR weights")] = None
    """The same for the middle: one number (SDXL: 3)."""
    up_weights: Annotated[Text, Kohya("up_lr_weight", "Up LR weights")] = None
    """The same for the up blocks: 12 numbers (SDXL: 9), or a curve: sine, cosine, linear, reverse_linear, zeros."""
    zero_threshold: Annotated[float, Field(ge=0), Kohya("block_lr_zero_threshold", "Blocks LR zero threshold")] = 0.0
    """Blocks whose weight is not above this are left out."""
    block_ranks: Annotated[Ranks, Kohya("block_dims", "Block dims")] = None
    """Rank of each of the 25 blocks (SDXL: 23), first to last; 0 leaves a block out."""
    block_alphas: Annotated[Alphas, Kohya("block_alphas", "Block alphas")] = None
    """Alpha of each block; empty takes the common one."""
    conv_block_ranks: Annotated[Ranks, Kohya("conv_block_dims", "Conv dims")] = None
    """Rank of each block's 3x3 convolutions."""
    conv_block_alphas: Annotated[Alphas, Kohya("conv_block_alphas", "Conv alphas")] = None
    """Alpha of each block's 3x3 convolutions; empty takes Convolution Alpha."""

    @property
    def by_block(self) -> bool:
        """Whether blocks differ in rank: sd-scripts asks for block ranks or weights before it looks at the rest."""
        return self.block_ranks is not None or self.weighted

    @property
    def weighted(self) -> bool:
        """Whether blocks differ in rate."""
        return any(text is not None for text in (self.down_weights, self.mid_weights, self.up_weights))

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        if self.rank_from_file and not self.start_from:
            raise ValueError("rank_from_file needs start_from, the LoRA file to read ranks from")
        if self.rank_from_file and self.by_block:
            raise ValueError("rank_from_file takes the ranks of the file: leave block_ranks and block weights empty")
        for name in ("block_alphas", "conv_block_ranks", "conv_block_alphas"):
            if getattr(self, name) is not None and not self.by_block:
                raise ValueError(f"{name} counts only beside block_ranks or block weights: set one of them")
        if self.conv_block_alphas is not None and self.conv_block_ranks is None:
            raise ValueError("conv_block_alphas counts only beside conv_block_ranks: set them")
        if self.zero_threshold and not self.weighted:
            raise ValueError("zero_threshold counts only beside down_weights, mid_weights or up_weights: set one")
        return self


class Lora(Blocks):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685); with a convolution rank it is Kohya's LoCon."""

    type: Annotated[Literal["lora"], Field(title="LoRA type")] = "lora"


class LoraFa(Blocks):
    """LoRA whose down matrices stay as they were drawn: less memory (Zhang et al. 2023, arXiv 2308.03303)."""

    type: Annotated[Literal["lora_fa"], Field(title="LoRA type")] = "lora_fa"


class Chosen(Starting):
    """Which layers a network of LyCORIS changes (Yeh et al. 2023, arXiv 2309.14859)."""

    preset: Annotated[Preset, Kohya("LyCORIS_preset", "LyCORIS Preset")] = "full"
    """Which layers are trained: LyCORIS's presets, or `kohya`, the layers of a LoRA."""
    filter: Annotated[Text, IsPath(), Field(title="LyCORIS filter file")] = None
    """A TOML file of LyCORIS that says which layers are trained; it outranks the preset."""


class Normed(Chosen):
    """Layers of norms, too."""

    train_norm: Annotated[bool, Kohya("train_norm", "Train Norm")] = False
    """Train the norms of the chosen blocks too, each as a difference."""


class Rows(Starting):
    """Dropout of rows."""

    rank_dropout: Annotated[DropoutRate, Kohya("rank_dropout", "Rank dropout")] = 0.0
    """Chance that a rank is left out for a picture; of LyCORIS's types, a row of a module's change."""
    rank_dropout_scale: Annotated[bool, Kohya("rank_dropout_scale", "Rank Dropout Scale")] = False
    """Make up for rows that are left out by scaling those that stay."""


class Composed(Scaled, Limited, Rows, Normed):
    """What LyCORIS's LoCon, LoHa and LoKr share."""

    dropout: Annotated[DropoutRate, Kohya("network_dropout", "Network dropout")] = 0.0
    """Chance that a neuron between down and up is left out."""
    dora: Annotated[bool, Kohya("dora_wd", "DoRA Weight Decompose")] = False
    """Learn the length of each row apart from its direction (DoRA, Liu et al. 2024, arXiv 2402.09353)."""
    tucker: Annotated[bool, Kohya("use_tucker", "Use Tucker decomposition")] = False
    """Factor the 3x3 convolutions into three parts in place of two: smaller files."""
    scalar: Annotated[bool, Kohya("use_scalar", "Use Scalar")] = False
    """Start from a trained number of 0 in place of matrices of 0."""
    rs_lora: Annotated[bool, Field(title="Rank-stabilized (rsLoRA)")] = False
    """Scale by alpha / the root of the rank (Kalajdzievski 2023, arXiv 2312.03732)."""
    bypass: Annotated[bool, Kohya("bypass_mode", "Bypass mode")] = False
    """Compute the change beside the layer in place of a changed weight: less memory, other rounding."""

    @model_validator(mode="after")
    def _bypass_is_another_way(self) -> Self:
        if self.bypass and self.dora:
            raise ValueError("bypass never sees the whole weight that dora decomposes: turn one of them off")
        if self.dropout and not self.bypass:
            raise ValueError("dropout of LyCORIS's types acts in bypass alone: set bypass to true, or dropout to 0")
        return self


class LoCon(Composed, Plus):
    """LoRA with LyCORIS's options."""

    type: Annotated[Literal["locon"], Field(title="LoRA type")] = "locon"


class LoHa(Composed):
    """Hadamard product of two low-rank changes (Hyeon-Woo et al. 2021, arXiv 2108.06098)."""

    type: Annotated[Literal["loha"], Field(title="LoRA type")] = "loha"


class LoKr(Composed):
    """Kronecker product (Edalati et al. 2022, arXiv 2212.10650)."""

    type: Annotated[Literal["lokr"], Field(title="LoRA type")] = "lokr"
    rank: Annotated[int, Field(ge=1, le=1_000_000), Kohya("network_dim", "Network Rank (Dimension)")] = 16
    """How much the network can hold; a rank larger than the layers keeps the large matrix whole."""
    conv_rank: Annotated[int | None, Field(ge=1, le=1_000_000), Kohya("conv_dim", "Convolution Rank (Dimension)")] = (
        None
    )
    """Rank of the 3x3 convolutions; empty takes the common rank."""
    factor: Annotated[int, Field(ge=-1, le=64), Kohya("factor", "LoKr factor")] = -1
    """Size of the small matrix; -1 makes both as alike as the layer allows."""
    decompose_both: Annotated[bool, Kohya("decompose_both", "LoKr decompose both")] = False
    """Give the small matrix a low rank too."""

    @model_validator(mode="after")
    def _factor_is_a_size(self) -> Self:
        if self.factor == 0:
            raise ValueError("factor 0 splits nothing: give -1, or 1 and more")
        return self


class DyLora(Scaled, Normed):
    """LoRA of all ranks at once, cut to any of them later (Valipour et al. 2022, arXiv 2210.07558)."""

    type: Annotated[Literal["dylora"], Field(title="LoRA type")] = "dylora"
    unit: Annotated[int, Field(ge=1, le=64), Kohya("unit", "DyLoRA Unit / Block size")] = 1
    """Ranks are trained, and later cut, in steps of so many."""

    @model_validator(mode="after")
    def _ranks_are_whole_units(self) -> Self:
        for name, rank in (("rank", self.rank), ("conv_rank", self.conv_rank)):
            if rank and rank % self.unit:
                raise ValueError(f"{name} {rank} is no multiple of unit {self.unit}: change one of them")
        return self


class GLora(Scaled, Normed):
    """A change that knows the weight it changes (Chavan et al. 2023, arXiv 2306.07967)."""

    type: Annotated[Literal["glora"], Field(title="LoRA type")] = "glora"


class Ia3(Chosen):
    """One factor for each neuron: the smallest of all (Liu et al. 2022, arXiv 2205.05638)."""

    type: Annotated[Literal["ia3"], Field(title="LoRA type")] = "ia3"
    on_input: Annotated[bool, Kohya("train_on_input", "iA3 train on input")] = True
    """Scale what goes into a layer in place of what comes out."""


class Turned(Sized, Limited, Normed):
    """What the orthogonal types share; their rank is the size of a block."""


class DiagOft(Turned):
    """A rotation in blocks of the rank's size (Qiu et al. 2023, arXiv 2306.07280)."""

    type: Annotated[Literal["diag_oft"], Field(title="LoRA type")] = "diag_oft"
    constraint: Annotated[float, Field(ge=0), Kohya("constrain", "Constrain OFT")] = 0.0
    """Limit on how far a block may turn, times the rows of the layer; 0 sets none."""
    rescaled: Annotated[bool, Kohya("rescaled", "Rescaled OFT")] = False
    """Learn the length of each row too."""


class Boft(Turned):
    """Rotations that reach across blocks, as a butterfly does (Liu et al. 2023, arXiv 2311.06243)."""

    type: Annotated[Literal["boft"], Field(title="LoRA type")] = "boft"
    constraint: Annotated[float, Field(ge=0), Field(title="Constrain OFT")] = 0.0
    """Limit on how far a block may turn, times the rows of the layer; 0 sets none."""
    rescaled: Annotated[bool, Field(title="Rescaled OFT")] = False
    """Learn the length of each row too."""


class Native(Rows, Normed):
    """Whole layers, kept as differences: a fine-tune in the form of a LoRA file."""

    type: Annotated[Literal["native"], Field(title="LoRA type")] = "native"
    module_dropout: Annotated[DropoutRate, Kohya("module_dropout", "Module dropout")] = 0.0
    """Chance that a whole module is left out."""


Network = Annotated[
    Lora | LoraFa | Ia3 | Boft | DiagOft | DyLora | GLora | LoCon | LoHa | LoKr | Native | Embedding | Full,
    Field(discriminator="type"),
    BeforeValidator(_kind),
]
Lycoris = Ia3 | Boft | DiagOft | DyLora | GLora | LoCon | LoHa | LoKr | Native


class Rates(Part):
    """Learning rate of each part: a number, `same` as the optimizer's, or empty for not trained."""

    unet: Annotated[Rate, Kohya("unet_lr", "Unet learning rate")] = "same"
    """How fast the UNet learns: `same` as Learning rate, or a rate of its own; empty leaves it as it is."""
    text_encoder: Annotated[Rate, Kohya("text_encoder_lr", "Text Encoder learning rate")] = "same"
    """How fast the text encoder learns, of SDXL the first one; `same` and empty as for the UNet."""
    text_encoder_2: Annotated[Rate, Kohya("text_encoder_lr", "Text Encoder 2 learning rate")] = "same"
    """How fast SDXL's second text encoder learns; `same` and empty as for the UNet."""
