"""M2M-100 (Fan et al. 2021) and NLLB (NLLB Team 2022): Pegasus with sines as fairseq has them, counted past padding."""

from wenloom.checkpoint.families.bart import BUFFERS, COPIES, read_common, tensors, write_config
from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig, limit


def _read(fields: ConfigFields) -> ModelConfig:
    padding = fields.integer("pad_token_id", 1, 0, limit("vocab_size"))
    return read_common(
        fields,
        "m2m_100",
        2,
        activation="relu",
        vocab_size=128_112,
        scales=True,
        output_bias=False,
        positions={"kind": "fairseq_sinusoidal", "offset": padding + 1, "skip_padding": True},
        norms={"place": "pre", "final": True},
    )


FAMILY = Family(
    "m2m_100", "M2M100ForConditionalGeneration", "model.", _read, write_config, tensors, BUFFERS, copies=COPIES
)
