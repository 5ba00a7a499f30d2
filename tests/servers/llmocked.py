"""llmock in this process, with the names that `ScriptedServer` has too.

Its own pytest plugin points every SDK at it through environment variables; here the catalog's ``api_base`` does that,
so ``conftest.py`` defines the fixture again. What llmock cannot do, `ScriptedServer` does: token counts of the test's
choosing, bodies of one's own, other error types than those of the status, faults below HTTP, Ollama.
"""

from __future__ import annotations

from llmock.journal import RequestRecord
from llmock.pytest_plugin import LLMock

__all__ = ["Llmock"]


class Llmock(LLMock):
    """llmock's scripting (``fail``, ``rate_limit``, ``context_overflow``, ``disconnect`` ...) and its ledger."""

    @property
    def openai_base(self) -> str:
        return self.base_url("openai")

    @property
    def anthropic_base(self) -> str:
        return self.base_url("anthropic")

    def sent(self, model: str | None = None) -> list[RequestRecord]:
        """The requests of this test, in the order of their arrival."""
        return [record for record in self.requests if model is None or record.model == model]

    def count(self, model: str | None = None) -> int:
        return len(self.sent(model))
