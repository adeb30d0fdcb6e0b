"""The options of generation in groups, each with its bounds and its help, in transformers' names where it has one."""

import json
from dataclasses import dataclass
from typing import Literal

from wenloom.generation.bounds import MAX_SEQUENCES, MAX_TOKENS, option


@dataclass(frozen=True)
class Length:
    """When a continuation ends."""

    max_new_tokens: int = option(200, least=1, most=MAX_TOKENS)
    """Most tokens to write."""
    max_length: int | None = option(None, least=1)
    """Most tokens of prompt and continuation together; the smaller of both limits holds."""
    min_new_tokens: int = option(0, least=0)
    """No end before this many new tokens."""
    min_length: int = option(0, least=0)
    """No end before this many tokens, prompt included."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end the continuation; they are left out of it."""
    eos_token_id: tuple[int, ...] | None = None
    """Tokens that end the continuation; None takes the model's own, () none."""
    forced_bos_token_id: int | None = option(None, least=0)
    """The first new token, whatever the model thinks."""
    forced_eos_token_id: int | None = option(None, least=0)
    """The last token, where the length limit is reached."""
    on_overflow: Literal["left", "error"] = "left"
    """A text longer than the model's context: "left" goes on without its beginning, "error" refuses such a prompt
    and ends the continuation where the context is full."""


@dataclass(frozen=True)
class Sampling:
    """How to draw a token. The options apply in the order in which they stand here."""

    do_sample: bool | None = None
    """Draw tokens at random (default); False takes the most probable one each time (greedy)."""
    temperature: float | None = option(None, above=1e-6, most=1e4, draws=True)
    """Divides the logits before drawing: below 1 is safer, above 1 is wilder. Default 0.8."""
    top_n_sigma: float | None = option(None, above=0, most=1e4, zero_is_off=True, cuts=True)
    """Draw only among logits within n standard deviations of the largest (Tang et al. 2024)."""
    top_h: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Draw only among the most probable tokens whose entropy stays within this share of the entropy of all
    (Potraghloo et al. 2025); 0.4 is common."""
    top_k: int | None = option(None, least=1, most=10**7, zero_is_off=True, cuts=True)
    """Draw only among the k most probable tokens (Fan et al. 2018)."""
    top_p: float | None = option(None, above=0, most=1, cuts=True)
    """Draw only among the fewest tokens whose probabilities add up to p (nucleus, Holtzman et al. 2020). Default
    0.95; 1 is all."""
    min_p: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Draw only among tokens at least this probable relative to the best (Nguyen et al. 2024)."""
    typical_p: float | None = option(None, above=0, most=1, cuts=True)
    """Draw among the tokens of most typical surprise that add up to this mass (Meister et al. 2023)."""
    epsilon_cutoff: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Draw only among tokens at least this probable (Hewitt et al. 2022)."""
    eta_cutoff: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Draw only among tokens above a threshold that falls with entropy: min(eta, sqrt(eta) exp(-entropy)) (Hewitt et al. 2022)."""
    xtc_probability: float = option(0.0, least=0, most=1, draws=True)
    """How often the most probable choices are left out (exclude top choices, p-e-w 2024)."""
    xtc_threshold: float = option(0.1, above=0, most=1)
    """With xtc_probability: of the tokens at least this probable only the least probable stays."""
    mirostat_tau: float | None = option(None, above=0, most=1e3, draws=True)
    """Hold the surprise of the text near tau bits per token (mirostat 2, Basu et al. 2021), in place of cut-offs."""
    mirostat_eta: float = option(0.1, above=0, most=1)
    """With mirostat_tau: how fast it adapts."""
    seed: int | None = option(None, least=0, most=2**63 - 1)
    """Makes the draw repeatable, whatever else is in the batch; of several prompts each draws by its place. None: another
    draw every time."""


@dataclass(frozen=True)
class Penalties:
    """What is discouraged or forbidden."""

    repetition_penalty: float = option(1.0, above=1e-4, most=1e4)
    """Divides the scores of tokens seen before, the prompt's included (CTRL, Keskar et al. 2019)."""
    presence_penalty: float = option(0.0, least=-1e6, most=1e6)
    """Subtracted once from tokens already written (OpenAI)."""
    frequency_penalty: float = option(0.0, least=-1e6, most=1e6)
    """Subtracted from tokens already written, as often as they were (OpenAI)."""
    no_repeat_ngram_size: int = option(0, least=0)
    """No sequence of this many tokens occurs twice."""
    dry_multiplier: float = option(0.0, least=0, most=1e6)
    """Discourages going on with a repetition, the more the longer it is (DRY, p-e-w 2024); 0.8 is common."""
    dry_base: float = option(1.75, above=1, most=1e3)
    """With dry_multiplier: growth of the penalty per repeated token."""
    dry_allowed_length: int = option(2, least=1)
    """With dry_multiplier: repetitions up to this many tokens are free."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """With dry_multiplier: tokens with these texts end a repetition."""
    bad_words: tuple[str, ...] = ()
    """Words that must not be written, as the tokens that spell them alone or after a blank."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Token sequences that must not be written."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, bias) pairs, or a mapping: added to the logits."""
    suppress_tokens: tuple[int, ...] = ()
    """Tokens that are never written."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Tokens that are not written first."""
    allowed_token_ids: tuple[int, ...] | None = None
    """Only these tokens (and the end tokens) may be written."""


@dataclass(frozen=True)
class Search:
    """Looking for the best continuation instead of drawing one, and steering by a second opinion."""

    num_beams: int = option(1, least=1, most=MAX_SEQUENCES)
    """Beam search: how many continuations are followed side by side."""
    length_penalty: float = option(1.0, least=-100, most=100)
    """Beam search: scores are divided by length to this power; above 0 favours longer texts."""
    early_stopping: bool | Literal["never"] = False
    """Beam search ends when as many texts as beams have ended (True), when a better one is unlikely (False), or
    only when none can come (never)."""
    num_beam_groups: int = option(1, least=1)
    """Diverse beam search: groups of beams that avoid each other's tokens (Vijayakumar et al. 2018)."""
    diversity_penalty: float = option(0.0, least=0, most=1e6)
    """Diverse beam search: subtracted per earlier group that chose the same token."""
    force_words: tuple[str, ...] = ()
    """Beam search: texts that must be written (grid beam search, Hokamp & Liu 2017)."""
    force_words_ids: tuple[tuple[int, ...], ...] = ()
    """Beam search: token sequences that must be written."""
    penalty_alpha: float | None = option(None, least=0, most=1)
    """Contrastive search among the top_k tokens: weight of being unlike the text so far (Su et al. 2022); 0.6."""
    dola_layers: tuple[int, ...] | Literal["low", "high"] | None = None
    """DoLa: contrast the last layer with the one of these that differs most (Chuang et al. 2023)."""
    guidance_scale: float = option(1.0, least=-1e4, most=1e4)
    """Classifier-free guidance: above 1 follows the prompt more, against `negative_prompt` (Sanchez et al. 2023)."""
    negative_prompt: str | None = None
    """Guidance away from this text; None is the last token of the prompt alone."""
    contrastive_beta: float | None = option(None, least=0, most=1e4)
    """Contrastive decoding against a smaller model: its weight (O'Brien & Lewis 2023); 0.5."""
    contrastive_alpha: float = option(0.1, above=0, most=1)
    """Contrastive decoding: only tokens at least this probable relative to the best count."""
    adapter: str | None = None
    """Write with the adapter of this name, one of those that the model was loaded with."""


@dataclass(frozen=True)
class StructuredOutput:
    """The grammar that a continuation obeys; at most one of these."""

    json_schema: str | None = None
    """A JSON document that obeys this schema (JSON text, or an object); {} is any JSON."""
    regex: str | None = None
    """A text that matches this regular expression."""
    choices: tuple[str, ...] = ()
    """One of these texts."""
    grammar: str | None = None
    """A text of this grammar, in Lark's notation; or an object: a JSON schema, or llguidance's {"grammars": [...]}."""


@dataclass(frozen=True)
class Output:
    """What comes back."""

    num_return_sequences: int = option(1, least=1, most=MAX_SEQUENCES)
    """Continuations per prompt."""
    logprobs: int | None = option(None, least=0, most=1000)
    """The log-probability of every new token, and of this many most probable ones (0: of the token alone)."""
    prompt_logprobs: int | None = option(None, least=0, most=1000)
    """The log-probability of every token of the prompt, and of this many most probable ones."""
    echo: bool = False
    """Repeat the prompt before the continuation."""


@dataclass(frozen=True)
class Speed:
    """Ways to the same result."""

    prompt_lookup_num_tokens: int = option(0, least=0, most=64)
    """Guess this many tokens by looking the last ones up in the text so far, and check them at once."""
    num_assistant_tokens: int = option(0, least=0, most=64)
    """Guess this many tokens with the draft model, and check them at once."""
    use_cache: bool = True
    """Keep keys and values of the tokens already read; without, the same comes out more slowly."""


@dataclass(frozen=True)
class Watermark:
    """A mark that statistics can find again (Kirchenbauer et al. 2023)."""

    watermark_key: int | None = option(None, least=0, most=2**63 - 1)
    """Mark the text with this key; `wenloom detect-watermark` finds it by the same."""
    watermark_greenlist_ratio: float = option(0.25, above=0, most=1)
    """Share of the vocabulary that is favoured after each token."""
    watermark_bias: float = option(2.0, least=-1e6, most=1e6)
    """Added to the logits of favoured tokens."""


@dataclass(frozen=True)
class RequestOptions(Watermark, Speed, Output, StructuredOutput, Search, Penalties, Sampling, Length):
    """All options of a request, by themselves in range or not."""

    @property
    def is_beam_search(self) -> bool:
        """Whether continuations compete instead of being drawn one by one."""
        return self.num_beams > 1

    @property
    def constraint(self) -> tuple[str, str] | None:
        """The option of `StructuredOutput` that is given, and its source."""
        if self.choices:
            return "choices", json.dumps(self.choices, ensure_ascii=False)
        return next(((k, v) for k in ("json_schema", "regex", "grammar") if (v := getattr(self, k)) is not None), None)
