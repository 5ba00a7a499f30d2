"""What LiteLLM Proxy does otherwise than modelrouter, in the words of an exported file and of what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remark:
    """Something of the catalog that the proxy cannot do, or does otherwise."""

    about: str
    """The key of the catalog, or what else it is about, in a word."""
    place: str
    """Where that is: ``modules.scorer``."""
    text: str

    def __str__(self) -> str:
        return f"{self.about} ({self.place}): {self.text}"


GENERAL: Mapping[str, str] = {
    "bad request": "a request that is itself wrong (400, 422) goes to all models of the chain; modelrouter stops there",
    "rate limit": "after a 429 the next model is asked at once, also when the provider asks for a short wait",
    "refusals": "after a 402 or a 403 the same model may be asked again, in vain",
    "pauses": "there are about two seconds between two tries of a model",
    "last model": "after a timeout the last model is not asked again",
    "no server": "where nothing listens on this machine, an Ollama that does not run, it is tried again",
    "answers": "an answer without text, or not as response_format has it, is an answer: no other model is asked",
    "filtered": "an answer that its provider has filtered is an answer; only a refusal goes to the next model",
    "streams": "a stream that breaks before its first piece may end as if it were whole, or go to the next model at "
    "once; one that breaks later ends with an error as its last event",
    "missing key": "a model whose key is not set is asked, with OPENAI_API_KEY if that is set, and not passed over",
    "abilities": "what a model does not take (tools, images, response_format) is left out, or sent, and the model not "
    "passed over; 'supports' is not known there",
    "limits": "max_tokens and temperature hold where a request says nothing else; a model's max_tokens is no cap",
    "long prompts": "a prompt that is too long for a model (context_window) is sent to it all the same",
    "set aside": "a model that keeps failing is asked first all the same; cool-downs are off, which would begin with "
    "the first failure",
    "errors": "when all models fail, the client gets the error of the first, and not what became of the others",
    "cost": "costs are floats, without those of attempts that failed; where no header has one it is not known",
    "books": "'modelrouter spend' and modelrouter's metrics know nothing of calls that others make to the proxy",
    "in flight": "a request that is under way already is sent again",
    "edits": "an edit of the catalog, or of variables that it reads, needs a new export and a new start of the proxy",
    "gateway": "left out: it says how modelrouter itself comes to a proxy",
    "for people": "note, checked and successor are left out, and what variables name: default_model, env_prefix",
}
"""What holds for every catalog."""

SENTENCES: Mapping[str, str] = {
    "deadline": "not held: each attempt has its timeout, and all that the proxy may make can together take",
    "budget": "not held: the proxy's own are of one model, not of a module, and for a time that slides",
    "split": "not made: the first that is written is asked first, the others after it",
    "accept": "not asked: every answer is taken, whatever accept_last says",
    "baseline": "left out: the proxy compares no costs",
    "cache": "kept by the proxy's own rules, and apart from the answers that modelrouter remembers",
    "no cache": "no answer is remembered: that takes a Redis, which MODELROUTER_STORE names",
    "embedded": "left out: the small model on this machine answers inside modelrouter alone",
    "no model": "left out: nothing remains of its chain",
    "key": "LiteLLM looks for it by itself, in the variables that it names for the provider",
    "params": "left out: there is a secret in it, or what the proxy takes for a variable",
    "retired": "asked all the same, also after that day",
    "name": "is the name of a module too, which is what the proxy answers by it",
    "price": "none, and not at its provider's own address: LiteLLM's own counts, where it has one, and may be wrong",
    "address": "has a secret in it, and so a part of it, or all, comes from a variable",
}
"""What a remark says, by what it is about."""
