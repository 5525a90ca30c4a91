# Two commands are enough on a fresh machine with Python 3.11 or newer and make: `make book` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup book test coverage test-slow test-oldest test-canary test-minutes run lab student bench refresh clean

VENV ?= .venv
ifeq ($(filter lab student,$(MAKECMDGOALS)),)
OUT ?= _build/runs
else
OUT ?= student
endif
PROFILE ?= smoke

# Two workers of one thread each, each taking whole files in their order: chapters are executed before the book is rendered
# of them, and what a file's tests share is made once.
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder

# What takes long; with environments of its own for the oldest versions allowed, and for the book's tools without pins.
SLOW := test-oldest test-canary test-minutes

# What is given on make's command line and is no option of make's own is a parameter of the chapter: DATASET=mnist.
# Values reach commands through the environment, as they are: neither make nor the shell ever reads them as code.
OPTIONS := CHAPTER PROFILE OUT YES FOR SOLUTIONS VENV PYTHON
GIVEN := $(filter-out CI SHELL MAKEFLAGS,$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
PARAMETERS := $(filter-out $(OPTIONS),$(GIVEN))
$(foreach name,$(sort $(OPTIONS) $(GIVEN)),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
export PARAMETERS

PY := "$$VENV/bin/python"
INSTALLED := installed

help:  ## this list
	@echo "make TARGET [VENV=path of an environment of your own]"; echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target says; do \
	  printf '%-19s %s\n' "$$target" "$$says"; done

setup: $(INSTALLED)  ## create .venv and install everything, once (about 3 minutes, 7 GB: PyTorch is most of it)

book: $(INSTALLED)  ## run every chapter at smoke size and render the book into _build/html (a minute a chapter, then less)
	@echo "Running every chapter (profile smoke, at most 45 s each; what has run before is loaded) and rendering:"
	@$(PY) -m gendyn_lite.cli book --out _build

test: $(INSTALLED)  ## style, types, contracts, tests, notebooks, the rendered book in a browser (about 14 minutes)
	@echo "Testing style, types, import contracts, code, notebooks and the rendered book (about 14 minutes on 2 cores):"
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(PY) -c "from importlinter.cli import lint_imports_command as lint; lint()"
	@rm -rf _build/test/runs _build/test/chapters
	GENDYN_RUNS="$$PWD/_build/test/runs" GENDYN_EXECUTED="$$PWD/_build/test/chapters" OMP_NUM_THREADS=1 \
	  $(PY) -m pytest $(IN_TWO) --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/notebooks/sanitize.cfg \
	  book/chapters tests gendyn_lite data_scripts

# Line by line it costs a third of the time in Python 3.11; from 3.12 on, Python itself notes the lines (sysmon).
coverage: $(INSTALLED)  ## which lines of the library no test runs: a report, nothing fails by it (about 15 minutes)
	@core="$$($(PY) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')"; \
	COVERAGE_CORE="$$core" OMP_NUM_THREADS=1 $(PY) -m pytest $(IN_TWO) --cov=gendyn_lite --cov-report=term:skip-covered \
	  tests gendyn_lite --ignore tests/browser

test-slow: $(INSTALLED)  ## the three below, one after another, and a summary (about an hour and a half)
	@status=0; summary=; for part in $(SLOW); do \
	  echo; start="$$(date +%s)"; \
	  if $(MAKE) --no-print-directory "$$part"; then said=passed; else said=FAILED; status=1; fi; \
	  summary="$$summary  $$part: $$said, $$(( ($$(date +%s) - start) / 60 )) minutes\n"; done; \
	printf "\nWhat takes long:\n$$summary"; exit "$$status"

test-oldest: oldest-installed  ## the tests on the oldest versions that pyproject.toml allows (half an hour, 6 GB)
	@echo "Testing on the oldest versions that pyproject.toml allows (about 20 minutes on 2 cores)."
	@echo "Not run: style, types and contracts (the same code), tests/browser and the chapters (they are made with the pins):"
	GENDYN_OLDEST=1 OMP_NUM_THREADS=1 "$$VENV-oldest/bin/python" -m pytest $(IN_TWO) \
	  tests gendyn_lite data_scripts --ignore tests/browser

test-canary: $(INSTALLED)  ## the book on the newest Sphinx, without the pins of Jupyter Book (about 3 minutes)
	@echo "Rendering the committed chapters with the newest versions of the book's tools, warnings as errors (about 3 minutes)."
	@echo "(If pip names pins of Jupyter Book: they are broken on purpose.)"
	@test -x "$$VENV-canary/bin/python" || $(PY) -m venv "$$VENV-canary"
	@"$$VENV-canary/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e . $$(grep '^jupyter-book==' constraints.txt)
	@$(PY) tests/project/canary.py wanted > "$$VENV-canary/wanted.txt"
	@"$$VENV-canary/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade -r "$$VENV-canary/wanted.txt"
	@"$$VENV-canary/bin/python" tests/project/canary.py render

test-minutes: $(INSTALLED)  ## what make test skips by name: chapters as on Colab, large networks (about an hour; 6 GB for a while)
	@echo "Running the tests that take minutes each (about an hour on 2 cores): chapters as on Colab, large networks:"
	GENDYN_SLOW=1 $(PY) -m pytest -m minutes tests

run: $(INSTALLED)  ## run one chapter: make run CHAPTER=01_random_labels PROFILE=colab DATASET=mnist (any parameter; YES=1: no question; FOR=8m: only its runs, as many as fit)
	@test -n "$$CHAPTER" || { echo "error: which chapter? make run CHAPTER=01_random_labels PROFILE=smoke" >&2; exit 2; }
	@echo "Running chapter $$CHAPTER, profile $$PROFILE (smoke: at most 45 s; colab: at most 20 minutes on one GPU):"
	@if test -n "$$FOR"; then set -f -- sweep "$$CHAPTER" --profile "$$PROFILE" --for "$$FOR"; \
	else set -f -- run "$$CHAPTER" --profile "$$PROFILE" --out "$$OUT" $${YES:+--yes}; fi; \
	for name in $$PARAMETERS; do \
	  set -- "$$@" -p "$$(echo "$$name" | tr '[:upper:]' '[:lower:]')=$$(printenv "$$name")"; done; \
	$(PY) -m gendyn_lite.cli "$$@"

lab: $(INSTALLED)  ## open one chapter in JupyterLab, live: make lab CHAPTER=04_stiffness (installs JupyterLab, once)
	@test -n "$$CHAPTER" || { echo "error: which chapter? make lab CHAPTER=04_stiffness" >&2; exit 2; }
	@$(PY) -c 'import jupyterlab, vl_convert' 2>/dev/null || { echo "Installing JupyterLab, once (a minute) ..."; \
	  $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lab]'; }
	@test -e "$$OUT/$$CHAPTER.ipynb" || $(PY) -m gendyn_lite.cli student "$$CHAPTER" --out "$$OUT"
	@echo "Opening $$OUT/$$CHAPTER.ipynb, where what you change stays (Ctrl-C ends it):"
	@GENDYN_DATA="$${GENDYN_DATA:-$$PWD/datasets}" GENDYN_RUNS="$${GENDYN_RUNS:-$$PWD/runs}" \
	  $(PY) -m jupyterlab "$$OUT/$$CHAPTER.ipynb"

student: $(INSTALLED)  ## plain notebooks for JupyterLab, VS Code, Colab: make student CHAPTER="04_stiffness" SOLUTIONS=no OUT=course
	@case "$$SOLUTIONS" in ""|yes) set -- ;; no) set -- --no-solutions ;; \
	  *) echo "error: SOLUTIONS=$$SOLUTIONS, expected yes or no" >&2; exit 2 ;; esac; \
	set -f; $(PY) -m gendyn_lite.cli student $$CHAPTER --out "$$OUT" "$$@"

bench: $(INSTALLED)  ## speed and memory beside the best peers (a few minutes; not part of make test)
	@echo "Measuring against peers (a few minutes; close other programs):"
	@for file in tests/benchmarks/*.py; do echo; echo "$$file"; $(PY) "$$file" || exit 1; done

refresh: $(INSTALLED)  ## execute the committed notebooks in place, before committing them (a minute a chapter)
	@echo "Executing the committed notebooks in place (profile smoke, at most 45 s each):"
	@set -f; $(PY) -m gendyn_lite.cli refresh $$CHAPTER

clean:  ## remove what was built (_build); .venv, runs, data sets and plain notebooks stay
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

.PHONY: oldest-installed
oldest-installed: $(INSTALLED)
	@set -e; here="$$VENV-oldest"; stamp="$$here/.gendyn-$$({ pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d' ' -f1)"; \
	[ ! -e "$$stamp" ] || exit 0; oldest=; \
	for name in "$$VENV/bin/python" python3.11; do \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then oldest="$$name"; break; fi; done; \
	[ -n "$$oldest" ] || { echo "error: the oldest versions are of Python 3.11, and there is no python3.11 here: install it" >&2; exit 1; }; \
	echo "Installing the lower bounds of pyproject.toml into $$here, once (about 3 minutes, 6 GB) ..."; \
	[ -x "$$here/bin/python" ] || "$$oldest" -m venv "$$here"; \
	$(PY) tests/project/oldest.py > "$$here/bounds.txt"; \
	"$$here/bin/python" -m pip install --quiet --disable-pip-version-check -c "$$here/bounds.txt" -e '.[book,test]'; \
	rm -f "$$here"/.gendyn-*; touch "$$stamp"
