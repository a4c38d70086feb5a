"""What is trained: the network, and how fast each of its parts learns."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.config.parts import DropoutRate, IsPath, Kohya, Part, Rate, Text


class Lora(Part):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685)."""

    type: Annotated[Literal["lora"], Field(title="LoRA type")] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024), Kohya("network_dim", "Network Rank (Dimension)")] = 16
    """How much the LoRA can hold; 8 to 32 suits a face."""
    alpha: Annotated[float, Field(gt=0, le=1024), Kohya("network_alpha", "Network Alpha")] = 16.0
    """How much the change counts: in full when this equals the rank, half at half the rank."""
    conv_rank: Annotated[int | None, Field(ge=1, le=1024), Kohya("conv_dim", "Convolution Rank (Dimension)")] = None
    """Rank of the 3x3 convolutions (LoCon); empty leaves them out."""
    conv_alpha: Annotated[float, Field(gt=0, le=1024), Kohya("conv_alpha", "Convolution Alpha")] = 1.0
    """The change of the 3x3 convolutions is scaled by this / their rank."""
    dropout: Annotated[DropoutRate, Kohya("network_dropout", "Network dropout")] = 0.0
    """Chance that a neuron between down and up is left out."""
    rank_dropout: Annotated[DropoutRate, Kohya("rank_dropout", "Rank dropout")] = 0.0
    """Chance that a rank is left out for a picture."""
    module_dropout: Annotated[DropoutRate, Kohya("module_dropout", "Module dropout")] = 0.0
    """Chance that a whole module is left out."""
    max_norm: Annotated[Annotated[float, Field(gt=0)] | None, Kohya("scale_weight_norms", "Scale weight norms")] = None
    """Scale a module down whenever the norm of its change grows beyond this."""
    start_from: Annotated[Text, Kohya("network_weights", "Network weights"), IsPath()] = None
    """Go on from this LoRA file."""
    rank_from_file: Annotated[bool, Kohya("dim_from_weights", "DIM from weights")] = False
    """Take ranks and alphas from the file that training starts from."""
    loraplus: Annotated[
        Annotated[float, Field(ge=1)] | None, Kohya("loraplus_lr_ratio", "LoRA+ learning rate ratio")
    ] = None
    """The up matrices learn this many times faster (LoRA+, Hayou et al. 2024, arXiv 2402.12354)."""
    loraplus_unet: Annotated[
        Annotated[float, Field(ge=1)] | None, Kohya("loraplus_unet_lr_ratio", "LoRA+ Unet learning rate ratio")
    ] = None
    """LoRA+ ratio of the UNet; empty takes the common one."""
    loraplus_text: Annotated[
        Annotated[float, Field(ge=1)] | None,
        Kohya("loraplus_text_encoder_lr_ratio", "LoRA+ Text Encoder learning rate ratio"),
    ] = None
    """LoRA+ ratio of the text encoders; empty takes the common one."""

    @model_validator(mode="after")
    def _rank_comes_from_somewhere(self) -> Self:
        if self.rank_from_file and not self.start_from:
            raise ValueError("rank_from_file needs start_from, the LoRA file to read ranks from")
        return self


class Rates(Part):
    """Learning rate of each part: a number, `same` as the optimizer's, or empty for not trained."""

    unet: Annotated[Rate, Kohya("unet_lr", "Unet learning rate")] = "same"
    """How fast the UNet learns: `same` as Learning rate, or a rate of its own; empty leaves it as it is."""
    text_encoder: Annotated[Rate, Kohya("text_encoder_lr", "Text Encoder learning rate")] = "same"
    """How fast the text encoder learns, of SDXL the first one; `same` and empty as for the UNet."""
    text_encoder_2: Annotated[Rate, Kohya("text_encoder_lr", "Text Encoder 2 learning rate")] = "same"
    """How fast SDXL's second text encoder learns; `same` and empty as for the UNet."""
