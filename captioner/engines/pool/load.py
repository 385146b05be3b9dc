"""How much work a request is, in tokens, before anybody has answered it."""

from __future__ import annotations

from captioner.types import Caption, CaptionRequest

PIXELS_A_TOKEN = 784  # a 28 x 28 patch, as Qwen2-VL counts; other models differ by a factor that is common to all
CHARACTERS_A_TOKEN = 4
FIRST_GUESS_TOKENS = 200.0
MEMORY = 200  # answers over which the expected completion is averaged


class Load:
    """Estimates requests in tokens; what an answer cost teaches it the usual completion."""

    def __init__(self) -> None:
        self._completion = FIRST_GUESS_TOKENS
        self._answers = 0

    def of(self, request: CaptionRequest) -> float:
        """Tokens of the pictures and the prompt, and those that the answer will probably have."""
        pixels = sum(picture.width * picture.height for picture in request.images)
        expected = min(self._completion, request.sampling.max_tokens)
        return 1.0 + pixels / PIXELS_A_TOKEN + len(request.prompt) / CHARACTERS_A_TOKEN + expected

    def learn(self, caption: Caption) -> None:
        """Take an answer into the running mean of completions."""
        if caption.completion_tokens is not None:
            self._answers = min(self._answers + 1, MEMORY)
            self._completion += (caption.completion_tokens - self._completion) / self._answers
