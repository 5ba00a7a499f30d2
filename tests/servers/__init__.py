"""Servers for the tests: real sockets on loopback, answers as scripted, a ledger of what came in.

``ScriptedServer`` speaks the wire formats of OpenAI, Anthropic and Ollama and can misbehave on every level down to the
socket. ``Llmock`` is the independent implementation of the first two, for what it can do. ``RedisServer`` is a Redis,
``ProxyServer`` LiteLLM's proxy.
"""

from __future__ import annotations

from .answers import Answer, Break, Drip, Drop, Fault, Garbage, Gate, Hang, Known, Reply, ToolUse
from .ledger import Outcome, Request
from .llmocked import Llmock
from .ports import babbler, never_accepts, refused_port
from .proxy import PROXY_PROGRAM, ProxyServer
from .redis import RedisServer
from .scripted import ScriptedServer

__all__ = [
    "PROXY_PROGRAM",
    "Answer",
    "Break",
    "Drip",
    "Drop",
    "Fault",
    "Garbage",
    "Gate",
    "Hang",
    "Known",
    "Llmock",
    "Outcome",
    "ProxyServer",
    "RedisServer",
    "Reply",
    "Request",
    "ScriptedServer",
    "ToolUse",
    "babbler",
    "never_accepts",
    "refused_port",
]
