# Every target runs its tools from .venv, so no environment needs to be active. `make help` lists them.

PYTHON ?= python3
TORCH_INDEX ?=
WORKERS ?= 2
FAMILY ?= ../family
RUN ?=
PYTEST_ARGS ?=

PY := .venv/bin/python
INSTALLED := .venv/.installed
# Results differ in the last bits with the number of threads, and two test workers share the machine.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# Half of the time of tests/core, which test-fast leaves to test.
SLOWER := tests/core/inversion tests/core/test_samplers.py::test_sampler_is_diffusers_scheduler \
	tests/core/test_predict.py::test_merged_scenes_are_separate_scenes_whatever_the_batch

.DEFAULT_GOAL := help
.PHONY: help demo studio page site test test-fast check imports tables dist bench font train-family-on train-family-status train-family-stop clean distclean

help:  ## list the targets
	@echo "usage: make TARGET [VARIABLE=value]"; echo
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'
	@echo
	@echo "  PYTHON      the interpreter .venv is made with, 3.11 or newer (python3)"
	@echo "  TORCH_INDEX address of the package index that torch alone comes from when .venv is made:"
	@echo "              for a CPU build, or one for your CUDA"
	@echo "  WORKERS     processes the tests run in (2)"
	@echo "  RUN         of tables: 1 measures again, resumable, in some hours on two cores;"
	@echo "              scripts/tables.py plan estimates each record"
	@echo "  FAMILY      folder with the state of train-family-on (../family)"
	@echo "  PYTEST_ARGS more arguments for pytest, such as '-m slow' or 'tests/scene'"

demo: $(INSTALLED)  ## draw examples/beach.json into demo.png
	@.venv/bin/cloisonne generate examples/beach.json -o demo.png --overwrite
	@echo "The picture is $(CURDIR)/demo.png"

studio: $(INSTALLED)  ## serve the studio and open it in the browser
	@.venv/bin/cloisonne studio

page:  ## build the studio's page from page/ (needs Node 20 and npm)
	cd page && npm ci --no-audit --no-fund && npm run build

test: $(INSTALLED)  ## run the tests (some 17 minutes on two idle cores)
	@$(PY) scripts/fetch_font.py || echo "Going on without the font: the glyphs must come from the atlas that an earlier run cached." >&2
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-fast: $(INSTALLED)  ## scene, core, imports and words, without the longest (half a minute on two cores)
	$(ONE_THREAD) $(PY) -m pytest -q -n $(WORKERS) tests/scene tests/core tests/test_imports.py tests/test_words.py $(SLOWER:%=--deselect %) $(PYTEST_ARGS)

check: $(INSTALLED)  ## style, format, types and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m basedpyright
	$(ONE_THREAD) $(PY) -m pytest -q tests/test_imports.py

imports: $(INSTALLED)  ## print the parts of the package by floors: what imports what
	@$(PY) tests/test_imports.py

tables: $(INSTALLED)  ## write the figures of README and docs from benchmarks/records; RUN=1 measures them first
	$(ONE_THREAD) $(PY) scripts/tables.py $(if $(RUN),run)
	$(ONE_THREAD) $(PY) scripts/plots.py

site: $(INSTALLED)  ## build the documentation site into build/site, offline
	@$(ONE_THREAD) $(PY) scripts/plots.py
	@$(ONE_THREAD) $(PY) scripts/site.py

dist: $(INSTALLED)  ## build wheel and sdist into dist, use the wheel in an empty environment, list the pins (SBOM)
	$(PY) scripts/package.py build --out dist
	$(ONE_THREAD) $(PY) scripts/package.py try dist $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)")
	$(PY) scripts/package.py sbom --out dist

bench: $(INSTALLED)  ## measure speed on this CPU: start, loading, regions, fast, large pictures (under 10 minutes)
	$(ONE_THREAD) $(PY) benchmarks/startup.py
	$(ONE_THREAD) $(PY) benchmarks/loading.py
	$(ONE_THREAD) $(PY) benchmarks/regions.py --shapes builtin small --regions 1 8 --rounds 3 --dense-rounds 1 --out /dev/null
	$(ONE_THREAD) $(PY) benchmarks/speed.py --limit 20
	$(ONE_THREAD) $(PY) benchmarks/hires.py --limit 3

font: $(INSTALLED)  ## put the pinned emoji font into .font (training, tests and evaluation draw with it)
	@$(PY) scripts/fetch_font.py

train-family-on: $(INSTALLED) font  ## train the built-in base on in the background, from FAMILY's last checkpoint
	@$(PY) scripts/family_training.py on --out "$(FAMILY)"

train-family-status: $(INSTALLED)  ## where that training stands
	@$(PY) scripts/family_training.py status --out "$(FAMILY)"

train-family-stop: $(INSTALLED)  ## stop it; its state stays in FAMILY
	@$(PY) scripts/family_training.py stop --out "$(FAMILY)"

clean:  ## remove caches and the demo's picture
	rm -rf demo.png build dist .pytest_cache .ruff_cache .hypothesis
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv, .font and page/node_modules too
	rm -rf .venv .font page/node_modules

# A stamp, so that pip runs again only when what it is told has changed.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(PY) || "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "cloisonne needs Python 3.11 or newer, and $(PYTHON) is not: name one, as in 'make demo PYTHON=python3.12'." >&2; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv .venv || \
		{ rm -rf .venv; echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)." >&2; exit 1; }
ifneq ($(strip $(TORCH_INDEX)),)
	$(PY) -m pip install torch -c constraints.txt --index-url "$(TORCH_INDEX)"
endif
	$(PY) -m pip install -e ".[dev]" -c constraints.txt
	@touch $@
