"""Where most wordings and rules were read: public repositories, each at one commit."""

from __future__ import annotations

QWEN_VL = "QwenLM/Qwen-VL @ aa00ed0, eval_mm"
VLMEVALKIT = "open-compass/VLMEvalKit @ e8e78f0"
LMMS = "EvolvingLMMs-Lab/lmms-eval @ 75571cf, lmms_eval/tasks"
