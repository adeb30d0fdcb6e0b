"""The encoder-only Transformer: every token sees every other (BERT, Devlin et al. 2019)."""

from torch import Tensor, nn, zeros
from torch.nn import functional as F

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig
from wenloom.model.feedforward import ACTIVATIONS
from wenloom.model.norm import make_norm
from wenloom.model.stack import Stack, make_classifier
from wenloom.model.taps import Taps, tapped


class Encoder(Stack):
    """BERT, RoBERTa, ALBERT, DeBERTa and others are configurations of this one model, with one of two heads or none.

    The one gives for every place the tokens that could stand there (masked language modelling), the other classes of
    the whole text.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.classifier = make_classifier(config)
        if config.output == "tokens":
            assert config.head.activation is not None
            width = config.embedding.width or config.d_model
            self.transform = nn.Linear(config.d_model, width, bias=config.head.bias)
            self.transform_activation = ACTIVATIONS[config.head.activation]
            self.transform_norm = make_norm(config.norms, width)
            self.head = nn.Linear(width, config.vocab_size, bias=False) if config.has_output_matrix else None
            self.output_bias = nn.Parameter(zeros(config.vocab_size))

    def forward(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        token_types_BT: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Logits of the token at every place (B, T, V), or of the classes (B, classes); without a head the last
        residual stream (B, T, D)."""
        if self.classifier is not None:
            return self.classify(tokens_BT, attention_mask, token_types_BT=token_types_BT, taps=taps)
        x_BTD = self.hidden(tokens_BT, attention_mask, token_types_BT=token_types_BT, taps=taps)
        return tapped(taps, "logits", self.unembed(x_BTD)) if self.predicts_tokens else x_BTD

    @property
    def places(self) -> list[str]:
        """Names for `taps`."""
        return [*super().places, *(["logits"] if self.config.output != "hidden states" else [])]

    def classify(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        token_types_BT: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Scores of the classes, shape (B, classes), from each row's first token."""
        assert self.classifier is not None
        hidden_BTD = self.hidden(
            tokens_BT, attention_mask, dropout_keys_B=dropout_keys_B, token_types_BT=token_types_BT, taps=taps
        )
        return tapped(taps, "logits", self.classifier(hidden_BTD[:, 0], dropout_keys_B))

    @property
    def predicts_tokens(self) -> bool:
        """Whether it has the head for that."""
        return self.config.output == "tokens"

    def transformed(self, x_BTD: Tensor) -> Tensor:
        """The residual stream as the output matrix reads it.

        Raises:
            InputError: the model has no head for tokens.
        """
        if not self.predicts_tokens:
            raise InputError(
                "this encoder has no head that predicts tokens: it gives hidden states, and can be tuned to classify."
            )
        return self.transform_norm(self.transform_activation(self.transform(x_BTD)))

    @property
    def output_weight(self) -> Tensor:
        """The matrix to logits, shape (V, D): the embedding itself where tied."""
        return self.embed.weight if self.head is None else self.head.weight

    def unembed(self, x_BTD: Tensor) -> Tensor:
        """Logits from the last residual stream."""
        return F.linear(self.transformed(x_BTD), self.output_weight, self.output_bias)
