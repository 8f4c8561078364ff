"""llama.cpp as a peer: prebuilt for CPUs by npm's node-llama-cpp, behind a Node process of ours (llama_peer.mjs).

    python -m benchmarks.llama install     # 85 MB into runs/peers; `make bench` does it

Text only: its vision tower is not in that package. The weights are the reference model's own, written as GGUF in bfloat16, q8_0 and
q4_0, so that what it chooses can be compared with ours. CPU time is that of the Node process, which runs on the same core as ours,
on one thread. Without node, npm or the module `gguf` there is no such peer, and reports say so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reference import SIZE, Size, folder

VERSION = "3.22.1"
FOLDER = Path(__file__).parents[1] / "runs" / "peers" / "llama"
SCRIPT = Path(__file__).with_name("llama_peer.mjs")
KINDS = ("bf16", "q8_0", "q4_0", "q4_0, head q8_0")
"""Of weights. The last is what our int4 is: its head has eight bits."""

TENSORS = {
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight", "self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias", "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
}  # fmt: skip
"""A layer's tensors, as transformers saves them and as GGUF has them."""


class LlamaError(RuntimeError):
    """What the Node process told, or that it ended."""


class Llama:
    """The Node process. One at a time is enough: `llama()` is it."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not installed():
            raise LlamaError("llama.cpp is not installed: python -m benchmarks.llama install")
        command = [node, str(SCRIPT), str(FOLDER)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, text=True)
        self.system = str(self._answer())

    def ask(self, command: str, **given: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **given}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise LlamaError(f"llama.cpp's process ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise LlamaError(f"llama.cpp: {answer['error']}")
        return answer["result"]

    def usage(self) -> float:
        """CPU seconds so far."""
        return float(self.ask("usage"))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Prefill:
    """Each call reads the prompts from the beginning. `clock` is what the harness measures it with."""

    def __init__(self, kind: str, prompts: Sequence[Sequence[int]], context: int, size: Size = SIZE) -> None:
        self.peer, self.name = llama(), f"{kind}, {len(prompts)} of {context}"
        self.prompts = [list(map(int, one)) for one in prompts]
        self.clock = self.peer.usage
        path = str(gguf_file(kind, size))
        self.peer.ask("load", name=self.name, path=path, sequences=len(prompts), context=context)

    def __call__(self) -> list[int]:
        """The token that follows each."""
        chosen: list[int] = self.peer.ask("prefill", name=self.name, prompts=self.prompts)
        return chosen


class Decode:
    """Each call decodes `steps` more tokens of every sequence, which are given. The prompts are read here."""

    def __init__(self, prefill: Prefill, tokens: Sequence[int], steps: int) -> None:
        self.prefill, self.clock, self.tokens, self.steps, self.place = prefill, prefill.clock, list(map(int, tokens)), steps, 0
        self.last = prefill()

    def __call__(self) -> None:
        places = range(self.place, self.place + self.steps)
        rows = [[self.tokens[place % len(self.tokens)]] * len(self.prefill.prompts) for place in places]
        self.place += self.steps
        self.last = self.prefill.peer.ask("decode", name=self.prefill.name, rows=rows)


@cache
def llama() -> Llama:
    return Llama()


def used() -> float:
    """CPU seconds of the process so far; 0 if there is none."""
    return llama().usage() if llama.cache_info().currsize else 0.0


def unload() -> None:
    """Let go of the models in its memory."""
    if llama.cache_info().currsize:
        llama().ask("unload")


def close() -> None:
    """End the process, if there is one."""
    if llama.cache_info().currsize:
        llama().close()
        llama.cache_clear()


def missing() -> str | None:
    """Why there is no such peer here."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        return "the module gguf is not installed"
    if shutil.which("node") is None:
        return "there is no node"
    return None if installed() else "node-llama-cpp is not installed"


def installed() -> bool:
    return (FOLDER / "node_modules" / "node-llama-cpp" / "package.json").is_file()


def install() -> int:
    """By npm, no script of any package run. Its optional packages are builds for GPUs; the one for this CPU is named."""
    npm = shutil.which("npm")
    if npm is None:
        print("llama.cpp: there is no npm, so the rows go without this peer", file=sys.stderr)
        return 0
    machine = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
    build = {"Darwin": f"mac-{machine}" + ("-metal" if machine == "arm64" else ""), "Windows": f"win-{machine}"}.get(
        platform.system(), f"linux-{machine}"
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text(json.dumps({"private": True, "type": "module"}), encoding="utf-8")
    packages = [f"node-llama-cpp@{VERSION}", f"@node-llama-cpp/{build}@{VERSION}"]
    options = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]
    return subprocess.run([npm, "install", *options, *packages], cwd=FOLDER, check=False).returncode


def gguf_file(kind: str, size: Size = SIZE) -> Path:
    """The reference model's decoder as GGUF, written beside it where it is not there yet."""
    target = folder(size) / f"{kind.replace(', ', '-').replace(' ', '-')}.gguf"
    if not target.is_file():
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        write_gguf(draft, kind, size)
        draft.rename(target)
    return target


def write_gguf(path: Path, kind: str, size: Size) -> None:
    """Matrices in `kind`, vectors in float32. The vocabulary is of words that mean nothing: ids go in, ids come out."""
    import gguf

    body, _, head = kind.partition(", head ")
    types = {name: gguf.GGMLQuantizationType[name.upper()] for name in (body, head or body)}
    writer = gguf.GGUFWriter(path, "qwen2vl")
    writer.add_context_length(size.longest)
    writer.add_embedding_length(size.hidden)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.intermediate)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.key_values)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_sections([*size.sections, 0])
    writer.add_layer_norm_rms_eps(1e-6)
    _add_vocabulary(writer, size)
    for name, array in decoder_tensors(size):
        wanted = types[(head or body) if name == "token_embd.weight" else body]
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, size: Size) -> None:
    import gguf

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"w{number}" for number in range(size.vocabulary)])
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * size.vocabulary)
    writer.add_token_merges(["w 0"])
    writer.add_eos_token_id(size.vocabulary - 1)


def decoder_tensors(size: Size) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Names as GGUF has them, and values in float32."""
    from safetensors import safe_open

    found = []
    for file in sorted(folder(size).glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            found += [(name, opened.get_tensor(name).float().numpy()) for name in opened.keys() if "visual" not in name]  # noqa: SIM118
    return [(gguf_name(name), array) for name, array in found]


def gguf_name(name: str) -> str:
    """Of a decoder's tensor, from the name that transformers saves it by."""
    if name.endswith("embed_tokens.weight"):
        return "token_embd.weight"
    if ".layers." not in name:
        return "output_norm.weight"
    number, _, rest = name.partition(".layers.")[2].partition(".")
    return f"blk.{number}.{TENSORS[rest]}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llama", description="Install llama.cpp as a peer.")
    parser.add_argument("what", choices=["install"])
    parser.parse_args(arguments)
    return install()


if __name__ == "__main__":
    sys.exit(main())
