"""The server's process: runs the model until its standard input ends.

Started by its path, with nothing of this package: it must come up fast and die for sure. The first
line on standard input is its configuration, the first on standard output says where it listens, or
why it does not. As long as the parent lives it holds the other end of standard input; when the
parent is gone, however it went, the input ends and so does this process.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

PARENT_SECONDS = 1.0
POLL_SECONDS = 0.02


def main() -> None:
    """Reads the configuration, starts the server, stays."""
    parent = os.getppid()
    config = json.loads(read_line())
    threading.Thread(target=until_input_ends, daemon=True).start()
    if os.name == "posix":
        threading.Thread(target=until_orphaned, args=(parent,), daemon=True).start()
    # What the engine prints must not come between the lines of this protocol.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        server, address = serve(config)
        until_healthy(address, config["key"])
    except (ImportError, RuntimeError, OSError, ValueError) as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        answers.flush()
        # An orderly end, in which the engine writes down what it still has to say.
        sys.exit(1)
    answers.write(json.dumps({"address": address}) + "\n")
    answers.flush()
    threading.Event().wait()
    del server


def read_line() -> bytes:
    """One line of standard input, not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            os._exit(0)
        line += piece
    return bytes(line)


def until_input_ends() -> None:
    """Ends the process when the parent closes its end, or dies."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def until_orphaned(parent: int) -> None:
    """Ends the process when its parent has died while somebody else still holds the pipe, as a fork
    of the parent does."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)


def serve(config: dict[str, Any]) -> tuple[object, str]:
    """The running server, and its address."""
    # Not at the top: its absence is an answer, not a crash.
    xllamacpp: Any = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = config["path"]
    params.model_alias = [config["model"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["key"]]
    params.n_parallel = config["parallel"]
    # The server divides its context among the requests it works on at once.
    params.n_ctx = config["context"] * config["parallel"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    params.n_gpu_layers = 0
    params.n_threads_http = config["parallel"] + 3
    # Old prompts would otherwise be kept in up to 8 GiB of memory.
    params.cache_ram_mib = 0
    params.use_jinja = True
    params.chat_template = config["template"]
    params.sampling.temp = 0.0
    params.sampling.penalty_repeat = config["repeat_penalty"]
    params.n_predict = config["max_output_tokens"]
    params.endpoint_slots = False
    params.ui = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    return server, server.listening_address


def until_healthy(address: str, key: str) -> None:
    """Waits while the server says that it is still loading."""
    host = urlsplit(address)
    while True:
        connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=30)
        try:
            connection.request("GET", "/health", headers={"Authorization": f"Bearer {key}"})
            status = connection.getresponse().status
        finally:
            connection.close()
        if status == http.client.OK:
            return
        if status != http.client.SERVICE_UNAVAILABLE:
            raise RuntimeError(f"/health answered with status {status}")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
