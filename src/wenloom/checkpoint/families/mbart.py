"""mBART (Liu et al. 2020): BART with the norm before each sub-layer, and one after the last."""

from wenloom.checkpoint.families.bart import BUFFERS, COPIES, OPTIONAL, read_common, tensors, write_config
from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    blocks = PLAIN_BLOCKS | {"norm_place": "pre", "final_norm": True}
    own = {"position_offset": 2, "embedding_norm": True, **blocks}
    return read_common(fields, "mbart", 2, activation="gelu", vocab_size=50265, **own)


FAMILY = Family("mbart", "MBartForConditionalGeneration", "model.", _read, write_config, tensors, BUFFERS,
                copies=COPIES, optional=OPTIONAL)  # fmt: skip
