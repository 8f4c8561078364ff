"""What others' loaders want beside tokenizer.json: the roles of special tokens, and how a conversation is written, in Jinja."""

from __future__ import annotations

import json
from pathlib import Path

from qwenvl.families.spec import FamilySpec
from qwenvl.processing.tokenizer import Tokenizer

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


def save_tokenizer(tokenizer: Tokenizer, spec: FamilySpec, folder: str | Path) -> None:
    """Write tokenizer.json; for families whose chat is one string, as transformers and vLLM write it, also tokenizer_config.json
    and chat_template.jinja."""
    folder = Path(folder)
    tokenizer.save(folder)
    if not spec.chat.joined_header:
        return
    chat = spec.chat
    roles = {"tokenizer_class": "Qwen2TokenizerFast", "eos_token": chat.turn_end, "pad_token": chat.document_end, "bos_token": None}
    (folder / CONFIG).write_text(json.dumps(roles, indent=2) + "\n", encoding="utf-8")
    (folder / TEMPLATE).write_text(chat_template(spec), encoding="utf-8")


def chat_template(spec: FamilySpec) -> str:
    """Jinja for `apply_chat_template` that gives the ids of our renderer: text, pictures and clips; the default system turn;
    numbers before pictures with add_vision_id. Tools are not in it."""
    chat, tokens = spec.chat, spec.image_tokens
    spans = {"image": f"{tokens.start}{tokens.pad}{tokens.end}", "video": f"{tokens.start}{tokens.video_pad}{tokens.end}"}
    numbers = {"image": chat.picture, "video": chat.video}

    def one(kind: str) -> str:
        before, after = numbers[kind].split("{n}")
        number = f"{{%- if add_vision_id %}}{{{{- {before!r} ~ seen.{kind} ~ {after!r} }}}}{{%- endif %}}"
        return f"{{%- set seen.{kind} = seen.{kind} + 1 %}}{number}{{{{- {spans[kind]!r} }}}}"

    system = f"{chat.turn_start}system\\n{chat.system}{chat.turn_end}\\n"
    return "\n".join(
        [
            "{%- set seen = namespace(image=0, video=0) %}",
            f"{{%- if messages[0].role != 'system' %}}{{{{- \"{system}\" }}}}{{%- endif %}}",
            "{%- for message in messages %}",
            f"{{{{- {chat.turn_start!r} ~ message.role ~ '\\n' }}}}",
            "{%- if message.content is string %}{{- message.content }}",
            "{%- else %}{%- for part in message.content %}",
            f"{{%- if part.type in ('image', 'image_url') %}}{one('image')}",
            f"{{%- elif part.type == 'video' %}}{one('video')}",
            "{%- else %}{{- part.text }}{%- endif %}",
            "{%- endfor %}{%- endif %}",
            f"{{{{- \"{chat.turn_end}\\n\" }}}}",
            "{%- endfor %}",
            f"{{%- if add_generation_prompt %}}{{{{- \"{chat.turn_start}assistant\\n\" }}}}{{%- endif %}}",
            "",
        ]
    )
