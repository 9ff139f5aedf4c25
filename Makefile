# Mayday: all but nginx's own build of the nginx module.
# `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

VERSION := $(shell sed -n 's/^\#define MAYDAY_VERSION "\(.*\)"/\1/p' core/base/base.h)

# What may be set on the command line.
BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
NGINX_SRC ?=
APXS     ?= $(firstword $(shell command -v apxs2 apxs 2>/dev/null) apxs)
SANITIZE ?=
CC       ?= cc
OPT      ?= -O2 -g
# V=1 shows the commands.
V        ?=
Q        := $(if $(V),,@)

LUA_DIR  ?= $(PREFIX)/share/mayday/lua

WARN   := -Wall -Wextra -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wshadow \
          -Wwrite-strings -Werror
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE -I. $(WARN) $(OPT) -fPIC -fvisibility=hidden -pthread
LDFLAGS_ALL := -pthread
ifneq ($(SANITIZE),)
CFLAGS_ALL  += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LDFLAGS_ALL += -fsanitize=$(SANITIZE)
# gcc warns that TSan does not follow fences.
CFLAGS_ALL  += $(if $(findstring thread,$(SANITIZE)),-Wno-tsan)
endif
CFLAGS_ALL += $(CFLAGS)

PKGS := luajit libcjson apr-1 sqlite3 libcurl libmicrohttpd libpcre2-8 zlib
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   = $(shell pkg-config --libs $(PKGS) 2>/dev/null)

# ---- sources, by room --------------------------------------------------------

CAPTURE_SRC := $(wildcard core/base/*.c core/capture/*.c)
CORE_SRC    := $(CAPTURE_SRC) $(wildcard core/event/*.c core/filter/*.c core/agent/*.c core/cli/*.c)
MAIN_SRC    := core/cli/main.c
OBJ          = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
CAPTURE_OBJ := $(call OBJ,$(CAPTURE_SRC))
CORE_OBJ    := $(call OBJ,$(CORE_SRC))
LIB_OBJ     := $(filter-out $(call OBJ,$(MAIN_SRC)),$(CORE_OBJ))

.PHONY: all
all: tools mayday nginx apache ## build everything

.PHONY: tools
tools:
	@packaging/packages.sh check build

$(CORE_OBJ): CFLAGS_ROOM = -DMAYDAY_LUA_DIR='"$(LUA_DIR)"' -DMAYDAY_AGENT_PATH='"$(PREFIX)/bin/mayday"'
$(filter-out $(CAPTURE_OBJ),$(CORE_OBJ)): CFLAGS_PKG = $(PKG_CFLAGS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_ROOM) $(CFLAGS_PKG) -MMD -MP -c $< -o $@

.PHONY: mayday
mayday: $(BUILD)/mayday ## build the command (the agent is part of it)

$(BUILD)/mayday: $(CORE_OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS_ALL) $(LDFLAGS) $^ $(PKG_LIBS) -lm -o $@

# ---- nginx module ------------------------------------------------------------

NGINX_MODULE := $(BUILD)/nginx/ngx_http_mayday_module.so
NGINX_DEPS   := config $(CAPTURE_SRC) $(wildcard ngx_module/* core/base/*.h core/capture/*.h core/capture/*.def)

.PHONY: nginx
nginx: $(NGINX_MODULE) ## build the nginx module (NGINX_SRC=DIR for another nginx than Debian's)

$(NGINX_MODULE): $(NGINX_DEPS)
	@packaging/build-nginx-module.sh "$(CURDIR)" "$(abspath $(BUILD))/nginx" "$(NGINX_SRC)" "$(SANITIZE)" "$(PREFIX)"

# ---- httpd module ------------------------------------------------------------

APACHE_MODULE := $(BUILD)/apache/mod_mayday.so
APACHE_SRC    := $(wildcard apache_module/*.c) $(CAPTURE_SRC)
APACHE_OBJ    := $(patsubst %.c,$(BUILD)/apache/%.o,$(APACHE_SRC))
APACHE_CFLAGS  = -I$(shell $(APXS) -q INCLUDEDIR) $(shell $(APXS) -q CFLAGS EXTRA_CPPFLAGS | tr ' ' '\n' | grep '^-D' | tr '\n' ' ') \
                 $(shell pkg-config --cflags apr-1 2>/dev/null) \
                 -Wno-unused-parameter -Wno-missing-field-initializers

# Optimised as a whole, its core objects apart from the agent's: of capturing a failed request calls
# between files and through the procedure table are a tenth. A compiler that cannot does without.
APACHE_OPT    := $(if $(SANITIZE),,$(shell echo 'int x;' | $(CC) -shared -fPIC -fno-plt -flto=auto -x c - \
                 -o /dev/null 2>/dev/null && echo -fno-plt -flto=auto))

$(APACHE_OBJ): CFLAGS_ROOM = -DMAYDAY_AGENT_PATH='"$(PREFIX)/bin/mayday"'
$(BUILD)/apache/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_ROOM) $(APACHE_CFLAGS) $(APACHE_OPT) -MMD -MP -c $< -o $@

.PHONY: apache
apache: $(APACHE_MODULE) ## build the httpd module

$(APACHE_MODULE): $(APACHE_OBJ) apache_module/exports.map
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) -shared $(OPT) $(APACHE_OPT) $(LDFLAGS_ALL) $(LDFLAGS) \
	    -Wl,--version-script=apache_module/exports.map $(APACHE_OBJ) -o $@

# ---- installation ------------------------------------------------------------

NGINX_MODULES_DIR  ?= $(or $(shell nginx -V 2>&1 | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p'),/usr/lib/nginx/modules)
APACHE_MODULES_DIR ?= $(or $(shell $(APXS) -q LIBEXECDIR 2>/dev/null),/usr/lib/apache2/modules)
APACHE_CONF_DIR    ?= $(wildcard /etc/apache2/mods-available)
INSTALL            := install -D

.PHONY: install
install: all ## install into DESTDIR, PREFIX and the servers' module folders
	$(INSTALL) -m 755 $(BUILD)/mayday $(DESTDIR)$(PREFIX)/bin/mayday
	$(INSTALL) -m 644 docs/mayday.1 $(DESTDIR)$(PREFIX)/share/man/man1/mayday.1
	for f in $$(cd lua && find . -name '*.lua'); do $(INSTALL) -m 644 lua/$$f $(DESTDIR)$(LUA_DIR)/$$f; done
	$(INSTALL) -m 644 $(NGINX_MODULE) $(DESTDIR)$(NGINX_MODULES_DIR)/ngx_http_mayday_module.so
	$(INSTALL) -m 644 $(APACHE_MODULE) $(DESTDIR)$(APACHE_MODULES_DIR)/mod_mayday.so
	if [ -n "$(APACHE_CONF_DIR)" ]; then \
	    $(INSTALL) -m 644 packaging/apache/mayday.load $(DESTDIR)$(APACHE_CONF_DIR)/mayday.load && \
	    $(INSTALL) -m 644 packaging/apache/mayday.conf $(DESTDIR)$(APACHE_CONF_DIR)/mayday.conf; fi
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' packaging/systemd/mayday-agent@.service | \
	    $(INSTALL) -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/mayday-agent@.service
	@echo "installed; next: docs/operations.md, or README.md, \"Use it\""

.PHONY: uninstall
uninstall: ## remove what install put there
	rm -rf $(DESTDIR)$(LUA_DIR)
	rm -f $(DESTDIR)$(PREFIX)/bin/mayday $(DESTDIR)$(PREFIX)/share/man/man1/mayday.1 \
	    $(DESTDIR)$(NGINX_MODULES_DIR)/ngx_http_mayday_module.so \
	    $(DESTDIR)$(APACHE_MODULES_DIR)/mod_mayday.so \
	    $(DESTDIR)$(PREFIX)/lib/systemd/system/mayday-agent@.service \
	    $(if $(APACHE_CONF_DIR),$(addprefix $(DESTDIR)$(APACHE_CONF_DIR)/,mayday.load mayday.conf))

# ---- demo --------------------------------------------------------------------

.PHONY: demo
demo: ## see it work: real servers, real failures (KEEP=1 leaves them running)
	@packaging/packages.sh install build servers demo
	@$(MAKE) --no-print-directory -s all
	@demo/run.sh "$(abspath $(BUILD))" "$(KEEP)"

# ---- tests -------------------------------------------------------------------

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
VENV     := $(BUILD)/venv

$(BUILD)/unit/%: tests/unit/%.c $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(PKG_CFLAGS) -MMD -MP $< $(LIB_OBJ) $(LDFLAGS_ALL) $(PKG_LIBS) -lcmocka -lm -o $@

.PHONY: unit
unit: $(UNIT_BIN) ## build and run the unit tests
	@tests/unit/run.sh $(UNIT_BIN)

$(VENV)/ready: tests/requirements.txt
	@echo "Installing the Python test tools into $(VENV)"
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

.PHONY: test
test: ## install the test tools, build, pass every test
	@packaging/packages.sh install build servers demo test
	@$(MAKE) --no-print-directory -s check $(VENV)/ready
	@MAYDAY_BUILD=$(abspath $(BUILD)) $(VENV)/bin/pytest -q -p no:cacheprovider tests/behaviour $(PYTEST)

.PHONY: check
check: all unit ## what needs neither network nor root
	@packaging/gen-directives.py --check && packaging/gen-record.py --check
	@packaging/check-messages.py && packaging/check-layers.sh $(BUILD)

.PHONY: lint
lint: ## layers, format, generated pages, clang-tidy, cppcheck, shellcheck, pyflakes
	@packaging/packages.sh check build lint
	@packaging/lint.sh $(BUILD) "$(CFLAGS_ALL) $(PKG_CFLAGS)" "$(APACHE_CFLAGS)"

# The command, the agent and both modules are instrumented. The servers are Debian's with the
# sanitizers' library preloaded, or nginx is built from NGINX_SRC and instrumented like the rest.
.PHONY: sanitize
sanitize: ASAN_LIB = $(realpath $(shell $(CC) -print-file-name=libasan.so))
sanitize: ## every test again with ASan and UBSan (NGINX_SRC=DIR: in nginx itself too)
	@packaging/packages.sh install build servers demo test
	@$(MAKE) --no-print-directory -s $(VENV)/ready
	@$(MAKE) --no-print-directory -s BUILD=$(BUILD)/asan SANITIZE=address,undefined all unit
	@MAYDAY_BUILD=$(abspath $(BUILD)/asan) MAYDAY_PRELOAD=$(ASAN_LIB) \
	    $(if $(NGINX_SRC),MAYDAY_NGINX=$(abspath $(BUILD)/asan/nginx/objs/nginx)) \
	    $(VENV)/bin/pytest -q -p no:cacheprovider tests/behaviour $(PYTEST)

.PHONY: fuzz
fuzz: ## random rules over random events, with ASan and UBSan (FUZZ_SECONDS=600, FUZZ_SEED=)
	@$(MAKE) --no-print-directory -s BUILD=$(BUILD)/asan SANITIZE=address,undefined \
	    $(BUILD)/asan/unit/test_rules_fuzz
	@MAYDAY_FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) \
	    MAYDAY_FUZZ_SEED=$(or $(FUZZ_SEED),$(shell date +%s)) $(BUILD)/asan/unit/test_rules_fuzz

.PHONY: bench
bench: ## measure the budgets, print each beside its bound
	@packaging/packages.sh install build servers demo test bench
	@$(MAKE) --no-print-directory -s all $(VENV)/ready
	@MAYDAY_BUILD=$(abspath $(BUILD)) $(VENV)/bin/python tests/bench/bench.py $(BENCH)

$(BUILD)/bench/%: tests/bench/%.c $(CAPTURE_OBJ)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP $< $(CAPTURE_OBJ) $(LDFLAGS_ALL) -o $@

$(BUILD)/bench/rules_cost: tests/bench/rules_cost.c $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(PKG_CFLAGS) -MMD -MP $< $(LIB_OBJ) $(LDFLAGS_ALL) $(PKG_LIBS) -lm -o $@

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BUILD)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

-include $(shell find $(BUILD)/obj $(BUILD)/apache $(BUILD)/unit $(BUILD)/bench -name '*.d' 2>/dev/null)
