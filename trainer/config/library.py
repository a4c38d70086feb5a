"""The optimizers of the pytorch-optimizer library that a test has trained and resumed to the last bit."""

from __future__ import annotations

import difflib
from typing import Any, Literal

_BYTES = {
    0: """ASGD Adalite Amos Fromage Nero PID RACS SCIONLight SGD SGDW""",
    1: """SaRA""",
    2: """AdaFactor FlashAdamW""",
    4: """AccSGD BCOS LARS NovoGrad QHM RMSprop SCION SGDP SGDSaI SM3 SignSGD Tiger""",
    8: """A2Grad ADOPT APOLLO AdaBelief AdaBound AdaDelta AdaGC AdaMax AdaNorm AdamC AdamP AdamS AdamWSN Aida
        Ano AvaGrad DualAdam EXAdam FAdam FOCUS FTRL Fira GaLore Grams Kate LaProp Lamb MSVAG NAdam PAdam
        PNM QHAdam RAdam SRMM SWATS SimplifiedAdEMAMix StableAdamW StableSPAM TAM Yogi""",
    12: """AdEMAMix AdaMod AdaTAM Adai AdamG AggMo ApolloDQN DiffGrad GrokFastAdamW MARS Ranger VSGD""",
    16: """AdaPNM AdaSmooth Adan""",
    20: """Shampoo""",
    24: """SOAP SPlus""",
}
TESTED = {name: size for size, names in _BYTES.items() for name in names.split()}
"""The bytes that each keeps for a trained fp32 parameter, by its name in that library; of matrices, some keep more."""
Name = Literal[tuple(sorted(TESTED))]  # pyrefly: ignore


def known(name: Any) -> Any:
    """The name of an optimizer as it is; ValueError for one that no test has trained and resumed."""
    if isinstance(name, str) and name not in TESTED:
        raise ValueError(f"{name} is not among those of pytorch-optimizer that are tested here{nearest(name)}")
    return name


def nearest(name: str) -> str:
    """A suggestion for a name that is not there."""
    lower = {one.lower(): one for one in TESTED}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[near[0]]}?" if near else ""
