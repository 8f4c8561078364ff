# Every target sets up what it needs in .venv, with plain pip. On a machine without GPU, torch's CPU index is smaller:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_WORKERS ?= 2

PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# One thread a process: the workers of pytest share the cores, and results do not depend on how many there are.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest

# Fonts and names that synthetic scenes are drawn with. Training and scene tests need them; the demo and a model's use do not.
PACKAGES = fonts-croscore fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-core fonts-droid-fallback fonts-inter fonts-lato fonts-roboto-slab \
	fonts-noto-color-emoji fonts-open-sans fonts-roboto-unhinted unicode-cldr-core

.PHONY: demo test fast oracle slow lint bench system clean
.DEFAULT_GOAL := test

demo: $(VENV)/.core
	$(VENV)/bin/qwenvl ask qwenvl/assets/samples/$(DEMO_PICTURE) "$(DEMO_QUESTION)" --boxes demo-answer.png

DEMO_PICTURE ?= scene-2.png
DEMO_QUESTION ?= Where is the donut? Give its box.

test: system lint fast oracle slow

fast: $(VENV)/.dev
	$(PYTEST) tests/fast -n $(PYTEST_WORKERS)

oracle: $(VENV)/.dev
	$(PYTEST) tests/oracle -n $(PYTEST_WORKERS)

# Not in parallel: these start processes of their own and measure time and memory.
slow: $(VENV)/.dev
	$(PYTEST) tests/slow

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks

# `pip install` first takes minutes (torch); the stamp files say that it was done for this pyproject and these versions.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints/cpu.txt | $(VENV)/bin/python
	@echo "installing qwenvl into $(VENV) (a few minutes the first time)"
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints/cpu.txt | $(VENV)/bin/python
	@echo "installing qwenvl with its test tools into $(VENV) (a few minutes the first time)"
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.core

system:
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing Debian packages:" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else \
		echo "missing fonts and names for scenes; run: sudo apt-get install" $$missing >&2; exit 1; \
	fi

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-answer.png
