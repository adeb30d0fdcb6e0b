"""The options of generation in groups, each with its bounds and its help, in transformers' names where it has one."""

import json
from dataclasses import dataclass
from typing import Literal

from wenloom.generation.bounds import MAX_SEQUENCES, MAX_TOKENS, option


@dataclass(frozen=True)
class Length:
    """When a continuation ends."""

    max_new_tokens: int = option(200, least=1, most=MAX_TOKENS)
    """Maximum number of new tokens."""
    max_length: int | None = option(None, least=1)
    """Maximum number of tokens of prompt and continuation together; the smaller of the two limits applies."""
    min_new_tokens: int = option(0, least=0)
    """Minimum number of new tokens before an end token."""
    min_length: int = option(0, least=0)
    """Minimum number of tokens before an end token, prompt included."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end the continuation; they are not part of it."""
    eos_token_id: tuple[int, ...] | None = None
    """Tokens that end the continuation; default: those of the model."""
    forced_bos_token_id: int | None = option(None, least=0)
    """Force this first new token."""
    forced_eos_token_id: int | None = option(None, least=0)
    """Force this last token where the length limit is reached."""
    on_overflow: Literal["left", "error"] = "left"
    """What to do with a text longer than the model's context: "left" truncates its beginning, "error" refuses such a
    prompt and ends the continuation where the context is full."""


@dataclass(frozen=True)
class Sampling:
    """How to sample a token. The options apply in the order in which they stand here."""

    do_sample: bool | None = None
    """Sample tokens at random (the default), or always take the most probable one (greedy)."""
    temperature: float | None = option(None, above=1e-6, most=1e4, draws=True)
    """Divides the logits before sampling: below 1 sharpens the distribution, above 1 flattens it. Default 0.8."""
    top_n_sigma: float | None = option(None, above=0, most=1e4, zero_is_off=True, cuts=True)
    """Sample only among logits within n standard deviations of the largest (Tang et al. 2024)."""
    top_h: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Sample only among the most probable tokens whose entropy stays within this share of the entropy of all
    (Potraghloo et al. 2025); 0.4 is common."""
    top_k: int | None = option(None, least=1, most=10**7, zero_is_off=True, cuts=True)
    """Sample only among the k most probable tokens (Fan et al. 2018)."""
    top_p: float | None = option(None, above=0, most=1, cuts=True)
    """Sample only among the fewest tokens whose probabilities add up to p (nucleus, Holtzman et al. 2020). Default 0.95;
    1 keeps all."""
    min_p: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Sample only among tokens at least this probable relative to the best (Nguyen et al. 2024)."""
    typical_p: float | None = option(None, above=0, most=1, cuts=True)
    """Sample only among the tokens of most typical surprisal that add up to this mass (Meister et al. 2023)."""
    epsilon_cutoff: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Sample only among tokens at least this probable (Hewitt et al. 2022)."""
    eta_cutoff: float | None = option(None, above=0, most=1, zero_is_off=True, cuts=True)
    """Sample only among tokens above a threshold that falls with entropy: min(eta, sqrt(eta) exp(-entropy)) (Hewitt et al. 2022)."""
    xtc_probability: float = option(0.0, least=0, most=1, draws=True)
    """Probability of leaving out the top choices (exclude top choices, XTC, p-e-w 2024)."""
    xtc_threshold: float = option(0.1, above=0, most=1)
    """With xtc_probability: of the tokens at least this probable, keep only the least probable."""
    mirostat_tau: float | None = option(None, above=0, most=1e3, draws=True)
    """Hold the surprisal of the text near tau bits per token (mirostat 2, Basu et al. 2021), in place of cut-offs."""
    mirostat_eta: float = option(0.1, above=0, most=1)
    """With mirostat_tau: the learning rate of the threshold."""
    seed: int | None = option(None, least=0, most=2**63 - 1)
    """Make sampling repeatable, whatever else is in the batch; each of several prompts has its own stream. Default: a new
    seed every time."""


@dataclass(frozen=True)
class Penalties:
    """Tokens that are penalized, favoured or forbidden."""

    repetition_penalty: float = option(1.0, above=1e-4, most=1e4)
    """Divide the logits of tokens that occur already, in the prompt too (CTRL, Keskar et al. 2019)."""
    presence_penalty: float = option(0.0, least=-1e6, most=1e6)
    """Subtract this from the logit of each token generated so far (OpenAI)."""
    frequency_penalty: float = option(0.0, least=-1e6, most=1e6)
    """Subtract this from the logit of each token, times the number of times it was generated (OpenAI)."""
    no_repeat_ngram_size: int = option(0, least=0)
    """Forbid n-grams of this many tokens to occur twice; 0 allows them."""
    dry_multiplier: float = option(0.0, least=0, most=1e6)
    """Penalize tokens that would extend a repetition, the more the longer it is (DRY, p-e-w 2024); 0.8 is common."""
    dry_base: float = option(1.75, above=1, most=1e3)
    """With dry_multiplier: factor by which the penalty grows per repeated token."""
    dry_allowed_length: int = option(2, least=1)
    """With dry_multiplier: repetitions up to this many tokens are not penalized."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """With dry_multiplier: tokens that contain these texts end a repetition."""
    bad_words: tuple[str, ...] = ()
    """Forbid these words, tokenized alone and after a space."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Forbid these token sequences."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Add a bias to the logit of a token: pairs of token and bias."""
    suppress_tokens: tuple[int, ...] = ()
    """Forbid these tokens."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Forbid these as the first new token."""
    allowed_token_ids: tuple[int, ...] | None = None
    """Allow only these tokens, and the end tokens."""


@dataclass(frozen=True)
class Search:
    """Search for the best continuation instead of sampling one, and steer by a second distribution."""

    num_beams: int = option(1, least=1, most=MAX_SEQUENCES)
    """Beam search: number of beams."""
    length_penalty: float = option(1.0, least=-100, most=100)
    """Beam search: divide scores by the length to this power; above 0 favours longer texts."""
    early_stopping: bool | Literal["never"] = False
    """Beam search: stop as soon as there are as many finished texts as beams (true), when a better one is unlikely (false),
    or only when none is possible (never)."""
    num_beam_groups: int = option(1, least=1)
    """Diverse beam search: number of groups, which avoid each other's tokens (Vijayakumar et al. 2018)."""
    diversity_penalty: float = option(0.0, least=0, most=1e6)
    """Diverse beam search: penalty per earlier group that chose the same token."""
    force_words: tuple[str, ...] = ()
    """Beam search: texts that the continuation must contain (grid beam search, Hokamp & Liu 2017)."""
    force_words_ids: tuple[tuple[int, ...], ...] = ()
    """Beam search: token sequences that the continuation must contain."""
    penalty_alpha: float | None = option(None, least=0, most=1)
    """Contrastive search among the top_k tokens: weight of the degeneration penalty (Su et al. 2022); 0.6 is common."""
    dola_layers: tuple[int, ...] | Literal["low", "high"] | None = None
    """DoLa: contrast the last layer with the one of these that differs most (Chuang et al. 2023): low, high or numbers of
    layers."""
    guidance_scale: float = option(1.0, least=-1e4, most=1e4)
    """Classifier-free guidance: above 1 follows the prompt more closely, away from `negative_prompt` (Sanchez et al. 2023)."""
    negative_prompt: str | None = None
    """Guide away from this text; default: the last token of the prompt alone."""
    contrastive_beta: float | None = option(None, least=0, most=1e4)
    """Contrastive decoding: weight of the draft model (O'Brien & Lewis 2023); 0.5 is common."""
    contrastive_alpha: float = option(0.1, above=0, most=1)
    """Contrastive decoding: keep only tokens at least this probable relative to the best."""
    self_debias: tuple[str, ...] = ()
    """Self-Debias: make tokens less probable that one of these texts, which describe what is not wanted, makes more probable, such as
    "The following text is sexist:" (Schick et al. 2021)."""
    self_debias_decay: float = option(50.0, above=0, most=1e4)
    """Self-Debias: how fast a token's probability falls with what it gains by that text; 10 is mild, 100 strong."""
    adapter: str | None = None
    """Use the adapter of this name, one of those loaded."""
    steer: tuple[str, ...] = ()
    """Add a steering vector of `wenloom steer` to the residual stream, at every token: NAME or NAME:STRENGTH, by its name or
    file. Several add up; a negative strength steers away."""


@dataclass(frozen=True)
class StructuredOutput:
    """Constrain the continuation; at most one of these."""

    json_schema: str | None = None
    """Generate a JSON document that obeys this JSON schema; {} allows any JSON."""
    regex: str | None = None
    """Generate a text that matches this regular expression."""
    choices: tuple[str, ...] = ()
    """Generate one of these texts."""
    grammar: str | None = None
    """Generate a text of this grammar in Lark's notation, or in JSON: a JSON schema, or llguidance's {"grammars": [...]}."""


@dataclass(frozen=True)
class Output:
    """What is returned."""

    num_return_sequences: int = option(1, least=1, most=MAX_SEQUENCES)
    """Number of continuations per prompt."""
    logprobs: int | None = option(None, least=0, most=1000)
    """Return the log-probability of every new token and of this many most probable ones (0: of the token alone)."""
    prompt_logprobs: int | None = option(None, least=0, most=1000)
    """Return the log-probability of every token of the prompt and of this many most probable ones."""
    echo: bool = False
    """Repeat the prompt before the continuation."""
    shown_special_tokens: tuple[str, ...] = ()
    """Let the names of these special tokens stand in the text, such as [TOOL_CALLS]; others are left out."""


@dataclass(frozen=True)
class Speed:
    """Faster ways to the same result."""

    prompt_lookup_num_tokens: int = option(0, least=0, most=64)
    """Speculative decoding without a draft model: propose this many tokens by looking up the last ones in the text so far."""
    num_assistant_tokens: int = option(0, least=0, most=64)
    """Speculative decoding: propose this many tokens with the draft model, and verify them in one step."""
    predicted_text: str | None = None
    """Speculative decoding without a draft model: a text that the continuation is expected to resemble, such as the one to be
    edited; its words are proposed and verified."""
    use_cache: bool = True
    """Use the KV cache; without it the result is the same, more slowly."""


@dataclass(frozen=True)
class Watermark:
    """A watermark that a statistical test detects (Kirchenbauer et al. 2023)."""

    watermark_key: int | None = option(None, least=0, most=2**63 - 1)
    """Watermark the text with this key; `wenloom detect-watermark` detects it with the same key."""
    watermark_greenlist_ratio: float = option(0.25, above=0, most=1)
    """Share of the vocabulary on the green list after each token."""
    watermark_bias: float = option(2.0, least=-1e6, most=1e6)
    """Added to the logits of tokens on the green list."""


@dataclass(frozen=True)
class RequestOptions(Watermark, Speed, Output, StructuredOutput, Search, Penalties, Sampling, Length):
    """All options of a request, by themselves in range or not."""

    @property
    def is_beam_search(self) -> bool:
        """Whether continuations compete instead of being drawn one by one."""
        return self.num_beams > 1

    @property
    def guesses(self) -> list[str]:
        """The options of `Speed` that are given and propose tokens."""
        names = ("prompt_lookup_num_tokens", "num_assistant_tokens", "predicted_text")
        return [name for name in names if getattr(self, name)]

    @property
    def constraint(self) -> tuple[str, str] | None:
        """The option of `StructuredOutput` that is given, and its source."""
        if self.choices:
            return "choices", json.dumps(self.choices, ensure_ascii=False)
        return next(((k, v) for k in ("json_schema", "regex", "grammar") if (v := getattr(self, k)) is not None), None)
