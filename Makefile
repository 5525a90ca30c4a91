# Two commands are enough on a fresh machine with Python 3.11 or newer and make: `make book` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup book test run bench refresh clean

VENV ?= .venv
OUT ?= _build/runs
PROFILE ?= smoke

# What is given on make's command line and is no option of make's own is a parameter of the chapter: DATASET=mnist.
# Values reach commands through the environment, as they are: neither make nor the shell ever reads them as code.
OPTIONS := CHAPTER PROFILE OUT YES VENV PYTHON
GIVEN := $(filter-out CI SHELL MAKEFLAGS,$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
PARAMETERS := $(filter-out $(OPTIONS),$(GIVEN))
$(foreach name,$(sort $(OPTIONS) $(GIVEN)),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
export PARAMETERS

PY := "$$VENV/bin/python"
INSTALLED := installed

help:  ## this list
	@echo "make TARGET [VENV=path of an environment of your own]"; echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target says; do \
	  printf '%-15s %s\n' "$$target" "$$says"; done

setup: $(INSTALLED)  ## create .venv and install everything, once (about 3 minutes, 7 GB: PyTorch is most of it)

book: $(INSTALLED)  ## run every chapter at smoke size and render the book into _build/html (a minute a chapter, then less)
	@echo "Running every chapter (profile smoke, at most 45 s each; what has run before is loaded) and rendering:"
	@$(PY) -m gendyn_lite.cli book --out _build

test: $(INSTALLED)  ## style, types, contracts, tests, notebooks, the rendered book in a browser (about 15 minutes)
	@echo "Testing style, types, import contracts, code, notebooks and the rendered book (about 15 minutes on 2 cores):"
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(PY) -c "from importlinter.cli import lint_imports_command as lint; lint()"
	@rm -rf _build/test/runs
	GENDYN_RUNS="$$PWD/_build/test/runs" $(PY) -m pytest --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/notebooks/sanitize.cfg \
	  tests gendyn_lite data_scripts book/chapters

run: $(INSTALLED)  ## run one chapter: make run CHAPTER=01_random_labels PROFILE=colab DATASET=mnist (any parameter; YES=1: no question)
	@test -n "$$CHAPTER" || { echo "error: which chapter? make run CHAPTER=01_random_labels PROFILE=smoke" >&2; exit 2; }
	@echo "Running chapter $$CHAPTER, profile $$PROFILE (smoke: at most 45 s; colab: at most 20 minutes on one GPU):"
	@set -f -- "$$CHAPTER" --profile "$$PROFILE" --out "$$OUT" $${YES:+--yes}; \
	for name in $$PARAMETERS; do \
	  set -- "$$@" -p "$$(echo "$$name" | tr '[:upper:]' '[:lower:]')=$$(printenv "$$name")"; done; \
	$(PY) -m gendyn_lite.cli run "$$@"

bench: $(INSTALLED)  ## speed and memory beside the best peers (a few minutes; not part of make test)
	@echo "Measuring against peers (a few minutes; close other programs):"
	@for file in tests/benchmarks/*.py; do echo; echo "$$file"; $(PY) "$$file" || exit 1; done

refresh: $(INSTALLED)  ## execute the committed notebooks in place, before committing them (a minute a chapter)
	@echo "Executing the committed notebooks in place (profile smoke, at most 45 s each):"
	@set -f; $(PY) -m gendyn_lite.cli refresh $$CHAPTER

clean:  ## remove what was built (_build); .venv, runs and data sets stay
	@echo "Removing _build:"
	rm -rf _build

# One installation for each content of these files, in each place: the second call installs nothing.
.PHONY: $(INSTALLED)
$(INSTALLED):
	@set -e; python="$$VENV/bin/python"; \
	stamp="$$VENV/.gendyn-$$({ pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d' ' -f1)"; \
	[ ! -e "$$stamp" ] || exit 0; \
	new_enough() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if "$$python" -m pip --version >/dev/null 2>&1; then \
	  new_enough "$$python" || { echo "error: $$VENV is of a Python older than 3.11: remove it, or set VENV=..." >&2; exit 1; }; \
	else \
	  base=; \
	  for name in "$${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11 python; do \
	    if new_enough "$$name"; then base="$$name"; break; fi; done; \
	  [ -n "$$base" ] || { echo "error: no Python 3.11 or newer found: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	  "$$base" -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $$base cannot create environments: install its venv module (Debian, Ubuntu: the package python3-venv), or use an environment of your own: make VENV=path" >&2; exit 1; }; \
	  echo "Creating $$VENV with $$("$$base" -V) ..."; "$$base" -m venv "$$VENV"; fi; \
	echo "Installing into $$VENV, once (about 3 minutes, 7 GB: PyTorch is most of it) ..."; \
	"$$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]' || { \
	  free="$$(df -Ph "$$VENV" | awk 'NR == 2 {print $$4}')"; \
	  echo "error: the installation did not finish; it takes about 11 GB of disk on its way ($$free are free there): make goes on from here" >&2; exit 1; }; \
	rm -f "$$VENV"/.gendyn-*; touch "$$stamp"
