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

# What training data is drawn with: fonts, names of things, the shaping of words, a browser for web pages, and manuals to read. And Java,
# in which the peer that splits captions into words is written. npm, from wherever it came, fetches what looks for barriers in the page.
# Making data and the tests need them; the demo and a model's use do not.
FONTS = fonts-arphic-gbsn00lp fonts-arphic-gkai00mp fonts-arphic-ukai fonts-arphic-uming fonts-b612 fonts-cabin fonts-cantarell \
	fonts-comfortaa fonts-courier-prime fonts-croscore fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-core \
	fonts-dosis fonts-droid-fallback fonts-ebgaramond fonts-freefont-ttf fonts-hosny-amiri fonts-inter fonts-ipaexfont-gothic \
	fonts-ipaexfont-mincho fonts-jetbrains-mono fonts-jura fonts-lato fonts-lemonada fonts-liberation fonts-linuxlibertine \
	fonts-lmodern fonts-lxgw-wenkai fonts-morisawa-bizud-gothic fonts-morisawa-bizud-mincho fonts-nanum fonts-noto-cjk \
	fonts-noto-color-emoji fonts-noto-core fonts-open-sans fonts-oxygen fonts-quicksand fonts-roboto-slab fonts-roboto-unhinted \
	fonts-sil-scheherazade fonts-smiley-sans fonts-sora fonts-urw-base35 fonts-vollkorn fonts-wqy-microhei fonts-wqy-zenhei
MANUALS = debian-reference-common debian-reference-en debian-reference-zh-cn maint-guide-zh-cn
PACKAGES = $(FONTS) $(MANUALS) chromium default-jre-headless libfribidi0 unicode-cldr-core

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

# What measures time or memory runs by itself.
slow: $(VENV)/.dev
	$(PYTEST) tests/slow -m "not alone" -n $(PYTEST_WORKERS) --dist loadfile
	$(PYTEST) tests/slow -m alone

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# Sixteen rows against the peers that one would pick instead, on one core, about ten minutes on a machine that does nothing else.
# llama.cpp, in 85 MB of npm's and the module that writes its files, is installed here only; without npm its comparisons are left out.
bench: $(VENV)/.peers
	$(VENV)/bin/python -m benchmarks

$(VENV)/.peers: benchmarks/llama.py | $(VENV)/.dev
	$(PIP) gguf==0.19.0
	$(VENV)/bin/python -m benchmarks.llama install
	@touch $@

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
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done; \
		command -v npm >/dev/null || echo npm); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing Debian packages:" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else \
		echo "missing fonts, names and a browser for making data; run: sudo apt-get install" $$missing >&2; exit 1; \
	fi

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-answer.png
