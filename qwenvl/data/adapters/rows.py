"""Rows of the table of adapters for whatever is not one question about one picture: texts, conversations, pairs, clips, screens."""

from __future__ import annotations

from qwenvl.data.adapters import (
    classes,
    conversations,
    finetuning,
    interleaved,
    preferences,
    screens,
    texts,
    trajectories,
    videos,
)
from qwenvl.data.adapters.adapter import Adapter
from qwenvl.data.adapters.captions import IMG2DATASET, WRITER

DOCUMENT, CONVERSATION, PREFERENCE = ("document",), ("conversation",), ("preference",)
PLACES, GROUNDING = ("referring", "naming"), ("video_grounding",)
STEPS = ("phone_step", "phone_instruction")

TEXT_LOADER = "huggingface/datasets @ 002f5f6, src/datasets/packaged_modules/text/text.py, sample_by"
KIT = "xiaomi-research/guievalkit @ 8e1d938, data/process_ac.py"
VSLNET = "26hzhang/VSLNet @ acf2d4c, data/dataset"

ROWS = (
    Adapter(
        "text", "text files, a text on every line", "`*.txt`, UTF-8", f'{TEXT_LOADER}="line"',
        texts.read_lines, texts.from_text, DOCUMENT,
    ),
    Adapter(
        "text_files", "text files, each a text", "`*.txt`, UTF-8", f'{TEXT_LOADER}="document"',
        texts.read_files, texts.from_text_file, DOCUMENT,
    ),
    Adapter(
        "c4", "C4, and all lines of JSON with a `text`", "`c4-SPLIT.*.json.gz`; `*.jsonl`, packed or not; `*.parquet`",
        "https://huggingface.co/datasets/legacy-datasets/c4/blame/014f83a5b824c861a03a17f8e626d7e87859af85/c4.py; "
        "https://huggingface.co/datasets/lsb/c4/blob/main/README.md",
        texts.read_c4, texts.from_c4, DOCUMENT,
    ),
    Adapter(
        "dolma", "Dolma, and what its toolkit writes", "`documents/**/*.jsonl.gz`", "allenai/dolma @ 43b0314, docs/data-format.md",
        texts.read_dolma, texts.from_dolma, DOCUMENT,
    ),
    Adapter(
        "wudao", "WuDaoCorpora Text, Chinese", "`*.json`",
        "FlagAI-Open/FlagAI @ 9a885f3, docs/TUTORIAL_2_DATASET.md and examples/glm_pretrain/data/jinrong_data.json",
        texts.read_wudao, texts.from_wudao, DOCUMENT,
    ),
    Adapter(
        "sharegpt", "ShareGPT, conversations without pictures", "`*.json` with `conversations`",
        "lm-sys/FastChat @ 399d160, data/dummy_conversation.json; @ 047b6e4, fastchat/train/train.py",
        conversations.read_conversations, conversations.from_sharegpt, CONVERSATION,
    ),
    Adapter(
        "llava", "LLaVA, ShareGPT4V and others in LLaVA's form", "`*.json`, `*.jsonl`; pictures as they name them",
        "haotian-liu/LLaVA @ 9ad7265, docs/Finetune_Custom_Data.md",
        conversations.read_conversations, conversations.from_llava, CONVERSATION,
    ),
    Adapter(
        "llava_video", "LLaVA-Video-178K", "`*_processed.json`, the videos as they name them",
        "LLaVA-VL/LLaVA-NeXT @ 45f2d92, llava/train/train.py; https://huggingface.co/datasets/lmms-lab/LLaVA-Video-178K",
        conversations.read_conversations, conversations.from_llava_video, CONVERSATION,
    ),
    Adapter(
        "qwen_vl", "fine-tuning JSON of Qwen-VL", "`*.json`, pictures as they name them",
        "QwenLM/Qwen-VL @ aa00ed0, finetune.py; @ 03c5f17, README.md, Data preparation",
        finetuning.read_qwen_vl, finetuning.from_qwen_vl, CONVERSATION, finetuning.THOUSANDTHS, finetuning.qwen_vl_boxes,
    ),
    Adapter(
        "qwen2_5_vl", "fine-tuning JSON of Qwen2.5-VL, boxes in pixels of the resized picture",
        "`*.json`, `*.jsonl` (not packed); pictures and videos as they name them",
        "QwenLM/Qwen3-VL @ 23ec840, qwen-vl-finetune/README.md; @ 23d3cce, qwen-vl-finetune/qwenvl/data/data_processor.py; "
        "Firefly-llm/Qwen3-VL @ c8fd746, qwen-vl-finetune/tools/process_bbox.ipynb",
        finetuning.read_qwen2_5_vl, finetuning.from_qwen2_5_vl, CONVERSATION, finetuning.RESIZED, finetuning.qwen2_5_vl_boxes,
    ),
    Adapter(
        "rlhf_v", "RLHF-V, corrected answers", "`RLHF-V-Dataset.parquet`",
        "https://huggingface.co/datasets/openbmb/RLHF-V-Dataset/blob/52f547091eca5a6815247db0cf64e64e579ace3f/README.md",
        preferences.read_pairs, preferences.from_rlhf_v, PREFERENCE,
    ),
    Adapter(
        "rlaif_v", "RLAIF-V, answers ranked by models", "`*.parquet`",
        "https://huggingface.co/datasets/openbmb/RLAIF-V-Dataset/commit/aef2c1c1be54db48a6e6ec8e55affc9a885b542b",
        preferences.read_pairs, preferences.from_rlaif_v, PREFERENCE,
    ),
    Adapter(
        "trl", "pairs as TRL takes them, with pictures or without", "`*.parquet`, `*.jsonl` with `prompt`, `chosen`, `rejected`",
        "huggingface/trl @ 0087e4f, docs/source/dataset_formats.md; https://huggingface.co/datasets/HuggingFaceH4/rlaif-v_formatted",
        preferences.read_pairs, preferences.from_trl, PREFERENCE,
    ),
    Adapter(
        "activitynet_qa", "ActivityNet-QA", "`SPLIT_q.json`, `SPLIT_a.json`; the videos",
        "MILVLG/activitynet-qa @ 0830fe6, dataset/README.md; @ 89cdb05, dataset/val_a.json",
        videos.read_activitynet_qa, videos.from_activitynet_qa, ("video_qa",),
    ),
    Adapter(
        "nextqa", "NExT-QA, multiple choice", "`SPLIT.csv`, `map_vid_vidorID.json`; the videos",
        "doc-doc/NExT-QA @ f2dafbf, dataset/nextqa/val.csv; @ af23d01, dataset/nextqa/map_vid_vidorID.json",
        videos.read_nextqa, videos.from_nextqa, ("multiple_choice",),
    ),
    Adapter(
        "charades_sta", "Charades-STA, when a sentence happens", "`charades_sta_SPLIT.txt`; the videos",
        f"jiyanggao/TALL @ 09e1a85, README.md; {VSLNET}/charades/charades_sta_train.txt",
        videos.read_charades_sta, videos.from_charades_sta, GROUNDING,
    ),
    Adapter(
        "activitynet_captions", "ActivityNet Captions, events with their times", "`train.json`, `val_1.json`, `val_2.json`; videos",
        f"ranjaykrishna/densevid_eval @ 1f0951c, evaluate.py; {VSLNET}/activitynet/val_2.json",
        videos.read_activitynet_captions, videos.from_activitynet_captions, ("video_events", *GROUNDING),
    ),
    Adapter(
        "screenspot", "ScreenSpot, a benchmark: elements of screens", "`screenspot_PLATFORM.json`, the screens there or below",
        "njucckevin/SeeClick @ 661ff1b, pretrain/screenspot_test.py",
        screens.read_screenspot, screens.from_screenspot, ("referring",), screens.PIXELS, screens.screenspot_boxes,
    ),
    Adapter(
        "seeclick", "SeeClick's grounding data", "`seeclick_web.json`, `widget_captioning.json`, `ricosca.json`; the screens",
        "njucckevin/SeeClick @ 05ba7c2, readme_data.md; @ 6118ca4, pretrain/pretrain_process.py",
        screens.read_elements, screens.from_seeclick, PLACES, screens.FRACTIONS, screens.element_boxes,
    ),
    Adapter(
        "os_atlas", "OS-Atlas' grounding data", "`PLATFORM_domain/*.json`; the screens in folders beside them",
        "https://huggingface.co/datasets/OS-Copilot/OS-Atlas-data",
        screens.read_elements, screens.from_os_atlas, PLACES, screens.FRACTIONS, screens.element_boxes,
    ),
    Adapter(
        "image_folder", "folders of classes, as ImageFolder of torchvision",
        "`CLASS/**/*.jpg`, or below `SPLIT/`; names in `classes.csv`",
        "pytorch/vision @ 0773175, torchvision/datasets/folder.py",
        classes.read_image_folder, classes.from_image_folder, ("classification",),
    ),
    Adapter(
        "wit", "WIT, Wikipedia's pictures with the titles of pages", f"{IMG2DATASET}, with WIT's columns",
        f"google-research-datasets/wit @ 0162d7f, DATA.md; {WRITER}",
        classes.read_wit, classes.from_wit, ("entity",),
    ),
    Adapter(
        "obelics", "OBELICS, web documents", "`*.parquet`; pictures as img2dataset writes files, in `images/`, or in the rows",
        "huggingface/OBELICS @ 334adfd, build_obelics/13_final_processing.py",
        interleaved.read_obelics, interleaved.from_obelics, DOCUMENT,
    ),
    Adapter(
        "mmc4", "Multimodal C4, web documents", "`docs_*.jsonl.zip`; pictures in `*_images/`",
        "allenai/mmc4 @ 1f51091, README.md; @ 003da0b, scripts/download_images.py",
        interleaved.read_mmc4, interleaved.from_mmc4, DOCUMENT,
    ),
    Adapter(
        "aitz", "Android in the Zoo, episodes on phones", "`SPLIT/**/*.json`, the screens beside them",
        "IMNearth/CoAT @ 033bbe2, data-example/; @ bddd262, coat/action_utils.py",
        trajectories.read_aitz, trajectories.from_aitz, STEPS,
    ),
    Adapter(
        "android_control", "AndroidControl, episodes on phones", "`android_control-*-of-*`, `splits.json`",
        f"google-research/google-research @ 0ced6d0, android_control/README.md; {KIT}",
        trajectories.read_android_control, trajectories.from_android_control, STEPS,
    ),
)  # fmt: skip
