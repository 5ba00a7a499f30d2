"""LiteLLM's proxy as it is installed in an environment of its own (`make proxy`), on loopback."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from .ports import free_port

__all__ = ["PROXY_PROGRAM", "ProxyServer"]

PROXY_PROGRAM = Path(__file__).parents[2] / "build" / "envs" / "proxy" / "bin" / "litellm"
"""Where `make proxy` puts it."""

_PATIENCE = 120.0
"""Seconds for its start, which takes ten to twenty on an idle machine."""


class ProxyServer:
    """Serves a configuration when the ``with`` block is entered, with `environment` and nothing of ours in its own.

    A start takes ten to twenty seconds. The log is kept in `directory`.
    """

    def __init__(self, directory: Path, config: Path, environment: Mapping[str, str] | None = None) -> None:
        """`config`: the file, which is read at each start."""
        self.config = config
        self.key = f"sk-{secrets.token_hex(24)}"
        """LITELLM_MASTER_KEY; a weak one is refused at the start."""
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._environment = {
            "PATH": f"{PROXY_PROGRAM.parent}{os.pathsep}{os.defpath}",
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "NO_PROXY": "127.0.0.1,localhost",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
            "LITELLM_MASTER_KEY": self.key,
            **(environment or {}),
        }
        self._log = directory / "proxy.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def openai_base(self) -> str:
        return f"{self.base}/v1"

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Also again, on the same port, after `stop`."""
        command = [PROXY_PROGRAM, "--config", self.config, "--host", "127.0.0.1", "--port", self.port]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*map(str, command), "--num_workers", "1", "--telemetry", "False"],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + _PATIENCE
        while not self.lives():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"the proxy does not start:\n{self.log[-5000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """As when its machine is lost: at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lives(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self.base}/health/liveliness", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
