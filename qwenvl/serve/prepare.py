"""From a request that was read to prompts for the engine. All of it runs in a thread of the pool: it decodes, resizes, renders."""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.inference.sampling import GenerationOptions
from qwenvl.processing.encode import ContextError
from qwenvl.serve.answering import Asked
from qwenvl.serve.budget import check_pictures, too_long
from qwenvl.serve.conversation import Medium, conversation, open_media, prompt_sample
from qwenvl.serve.models import Served
from qwenvl.serve.schema import ChatRequest, CompletionRequest, Drawing, TokenizeRequest
from qwenvl.serve.settings import MediaLimits
from qwenvl.types import Encoded, Sample, Style

SEEDS = 1 << 63


def prepare_chat(served: Served, request: ChatRequest, media: Sequence[Medium], limits: MediaLimits) -> list[Asked]:
    """Each answer that is wanted. Raises ApiError or another QwenVLError, one line."""
    model = served.model
    constraints = served.constraint(request)  # cheap beside pictures, and often what is wrong
    sample = conversation(request, open_media(media, model.spec, limits), model)
    prompt = encode(served, sample, model.style, request.limit)
    return [Asked(prompt, options_of(request, number), constraint, request.top) for number, constraint in enumerate(constraints)]


def prepare_completion(served: Served, request: CompletionRequest, media: Sequence[Medium], limits: MediaLimits) -> list[Asked]:
    """`n` answers to each of the prompts, all with the same pictures before them."""
    visuals = open_media(media, served.model.spec, limits)
    prompts = [encode(served, prompt_sample(text, visuals), "raw", request.limit) for text in request.prompts]
    wanted = [prompt for prompt in prompts for _ in range(request.n or 1)]
    return [Asked(prompt, options_of(request, number), None, request.logprobs) for number, prompt in enumerate(wanted)]


def prepare_count(served: Served, request: TokenizeRequest, media: Sequence[Medium], limits: MediaLimits) -> Encoded:
    """The prompt alone, as a completion of chat or text would begin."""
    visuals = open_media(media, served.model.spec, limits)
    if request.prompt is not None:
        return encode(served, prompt_sample(request.prompt, visuals), "raw", None)
    return encode(served, conversation(request, visuals, served.model), served.model.style, None)


def encode(served: Served, sample: Sample, style: Style, answer: int | None) -> Encoded:
    """The prompt as the model reads it; what is too long is refused with a budget that would fit."""
    check_pictures(served.model, sample, style, answer)
    try:
        encoded: Encoded = served.model.encode(sample, style)
    except ContextError:
        raise too_long(served.model, sample, style, answer) from None
    return encoded


def options_of(request: Drawing, number: int) -> GenerationOptions:
    """How answer `number` of a request is drawn. With a seed, every answer has one of its own that follows from it."""
    return GenerationOptions(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(request.top_k, 0) if request.top_k is not None else None,  # -1 is how vLLM says "all"
        repetition_penalty=request.repetition_penalty or 1.0,
        max_new_tokens=request.limit,
        min_new_tokens=request.min_tokens or 0,
        stop=request.stops,
        seed=None if request.seed is None else (request.seed + number) % SEEDS,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
    )
