"""Environment variables that direct programs: what they run, read or connect to (CL6).

A secret with such a name would let everybody who may write the secret run code in the child. So a
name of the list is refused, unless it ends like the name of a secret: `GIT_TOKEN` is passed, and
`GIT_SSH_COMMAND` is not.

No list of this kind is complete. It is the second line of defence: without `--only`, and for
secrets that somebody else chose, names have to end like those of secrets (CL1).
"""

import re

from capabilities.frozen import frozen


@frozen
class Family:
    """Variables of related programs.

    Attributes:
        what: the programs and what the variables do, for the page.
        patterns: names, and prefixes of names with `*` at the end.
    """

    what: str
    patterns: tuple[str, ...]


def _family(what: str, patterns: str) -> Family:
    return Family(what, tuple(patterns.split()))


FAMILIES = (
    _family(
        "the loader of programs and the C library: libraries, converters, host names, traces",
        "LD_* DYLD_* LIBPATH GCONV_* GETCONF_* GLIBC_* LOCPATH NLSPATH TEXTDOMAIN* MALLOC_*"
        " HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_* TZDIR",
    ),
    _family(
        "folders in which programs and their settings are searched, and temporary files",
        "PATH HOME SHELL USER LOGNAME PWD OLDPWD CDPATH XDG_* TERMINFO* TERMCAP TMP* TEMP TEMPDIR",
    ),
    _family(
        "shells: files that are read at the start, prompts that are evaluated",
        "BASH* SHELLOPTS ENV IFS PS0 PS1 PS2 PS3 PS4 PROMPT_COMMAND ZDOTDIR FPATH MODULE_PATH"
        " NULLCMD READNULLCMD STTY GLOBIGNORE EXECIGNORE HISTFILE INPUTRC CONFIG_SHELL CONFIG_SITE",
    ),
    _family(
        "editors, pagers, browsers and other helpers that programs start",
        "EDITOR* VISUAL* PAGER* BROWSER* LESS* MANPAGER MANPATH MANOPT MANROFF* FCEDIT VIM VIMINIT"
        " VIMRUNTIME GVIMINIT NVIM_* EXINIT EMACS* LYNX_* BAT_* DELTA_* MAILCAPS MAILRC MAILER"
        " SUDO_* SYSTEMD_* DIRENV_* MISE_* ASDF_* SCREENRC STARSHIP_* RIPGREP_* FZF_* TEXMF*"
        " TEXINPUTS TEXEDIT GS_*",
    ),
    _family(
        "version control and ssh: commands, hooks, configuration",
        "GIT_* GH_CONFIG_* GH_EDITOR GH_BROWSER GH_PAGER GH_PATH GH_HOST HG HGRCPATH HGEDITOR"
        " HGMERGE SVN_* CVS* P4CONFIG P4ENVIRO P4EDITOR P4DIFF* P4MERGE P4PAGER JJ_* FOSSIL_*"
        " GNUPGHOME SSH_ASKPASS* SSH_AUTH_SOCK SSH_SK_* SSH_PKCS11_*",
    ),
    _family(
        "copies and archives: options, remote shells, commands for passwords",
        "RSYNC_* RSH TAR_* TAPE RMT GZIP BZIP* XZ_* ZSTD_* ZIP ZIPOPT UNZIP UNZIPOPT ZIPINFO*"
        " BORG_* RESTIC_* RCLONE_* GREP_* BC_*",
    ),
    _family(
        "Python: modules, plugins, settings and package indexes",
        "PYTHON* PYTEST* PIP_* PIPX_* PIPENV_* UV_* POETRY_* PDM_* HATCH_* TOX_* NOX_* CONDA_*"
        " MAMBA_* VIRTUALENV_* VIRTUAL_ENV PYENV_* TWINE_* SETUPTOOLS_* DISTUTILS_* COVERAGE_*"
        " MYPY* IPYTHON* JUPYTER_* MPL* DJANGO_SETTINGS* FLASK_APP FLASK_DEBUG FLASK_ENV GUNICORN_*"
        " UVICORN_* CELERY_LOADER CELERY_CONFIG* CELERY_APP SCRAPY_* AIRFLOW_* PRE_COMMIT_*",
    ),
    _family(
        "JavaScript: options, preloaded modules, registries, browsers",
        "NODE_* NPM_* YARN_* PNPM_* BUN_* DENO_* COREPACK_* NVM_* VOLTA_* FNM_* TS_NODE_* TSX_*"
        " BABEL_* ESBUILD_* ELECTRON_* PUPPETEER_* PLAYWRIGHT_* CHROME_DEVEL_* CHROME_PATH"
        " CHROME_WRAPPER CHROMIUM_* CYPRESS_INSTALL_* CYPRESS_RUN_*",
    ),
    _family(
        "Ruby, Perl, Lua, PHP, R, Tcl, Awk: options, libraries, start-up files",
        "RUBY* GEM_* BUNDLE* RAKE* RBENV_* JRUBY_* TRUFFLERUBYOPT SPEC_OPTS IRBRC PRYRC PERL*"
        " HARNESS_* DBI_* LUA* PHP* COMPOSER_* XDEBUG_* R_* RENV_* TCL* TK_LIBRARY AWK* GAWK_*",
    ),
    _family(
        "Erlang, Elixir, Haskell, OCaml, Julia, Scheme, Racket, Dart: options, packages",
        "ERL* ESCRIPT_* DIALYZER_* REBAR* ELIXIR_* MIX_* HEX_* IEX_* GHC_* GHCRTS CABAL_*"
        " STACK_ROOT STACK_YAML STACK_CONFIG OCAML* CAML* OPAM* JULIA_* GUILE_* PLT* SBCL_*"
        " OCTAVE_* DART_* PUB_* FLUTTER_* CRYSTAL_*",
    ),
    _family(
        "Java and its tools: options, agents, class paths",
        "JAVA_* JDK_* JRE_* JVM_* CLASSPATH MAVEN_* GRADLE_* ANT_* SBT_* COURSIER_* KOTLIN_*"
        " SCALA_* GROOVY_* CLJ_* LEIN_* CATALINA_* LOG4J_* KAFKA_OPTS KAFKA_JVM_* KAFKA_LOG4J_*"
        " KAFKA_HEAP_* ES_JAVA_* LS_JAVA_* IBM_JAVA_* OPENJ9_* SPARK_* HADOOP_* SPRING_CONFIG*"
        " SPRING_CLOUD_* SPRING_APPLICATION_JSON LOGGING_CONFIG",
    ),
    _family(
        ".NET: start-up hooks, profilers, packages",
        "DOTNET_* CORECLR_* COR_* COMPLUS_* NUGET_* MSBUILD* ASPNETCORE_* MONO_*",
    ),
    _family(
        "Go and Rust: tools, flags, proxies of modules",
        "GOFLAGS GOPROXY GOPATH GOROOT GOENV GOBIN GOCACHE* GOTOOL* GOSUMDB GONOSUMDB GONOPROXY"
        " GOPRIVATE GOINSECURE GOMODCACHE GOTMPDIR GODEBUG GOAUTH GOVCS GOWORK CGO_* GCCGO* CARGO*"
        " RUST* SCCACHE_*",
    ),
    _family(
        "compilers and builds: programs, flags, search paths",
        "MAKE* MFLAGS GNUMAKE* NINJA_* CMAKE_* MESON_* SCONS* BAZEL_* KBUILD_* CC CXX CPP LD AR AS"
        " NM RANLIB STRIP FC F77 YACC LEX CFLAGS CPPFLAGS CXXFLAGS LDFLAGS LDLIBS ARFLAGS FFLAGS"
        " FCFLAGS YFLAGS LFLAGS GCC_* COMPILER_PATH LIBRARY_PATH CPATH C_INCLUDE_PATH"
        " CPLUS_INCLUDE_PATH OBJC_INCLUDE_PATH DEPENDENCIES_OUTPUT CCACHE_* DISTCC_* CLANG_* LLVM_*"
        " PKG_CONFIG* ACLOCAL* AUTOCONF AUTOMAKE AUTOM4TE* LIBTOOL* M4* NIX_* GUIX_* VCPKG_*"
        " CONAN_* DEB_* DEBUILD_* DPKG_* APT_* RPM_* HOMEBREW_* JUST_*",
    ),
    _family(
        "infrastructure: plugins, contexts, addresses of daemons",
        "TF_CLI_* TF_PLUGIN_* TF_DATA_DIR TF_REATTACH_* TF_ENCRYPTION TERRAGRUNT_* TG_* PACKER_*"
        " VAGRANT_* PULUMI_* ANSIBLE_* KUBECONFIG KUBECTL_* KUBE_EDITOR HELM_* SKAFFOLD_* KREW_*"
        " ARGOCD_OPTS DOCKER_HOST DOCKER_CONFIG DOCKER_CONTEXT DOCKER_CERT_* DOCKER_TLS*"
        " DOCKER_CLI_* DOCKER_CONTENT_* DOCKER_BUILD* DOCKER_DEFAULT_* BUILDX_* BUILDKIT_*"
        " BUILDAH_* COMPOSE_* PODMAN_* CONTAINER_HOST CONTAINERS_* REGISTRY_AUTH_FILE SOPS_*"
        " CLAUDE_CONFIG* CODEX_HOME",
    ),
    _family(
        "clouds: files that name commands for credentials, addresses, wrappers",
        "AWS_CONFIG_* AWS_SHARED_* AWS_ENDPOINT_* AWS_CA_* AWS_CONTAINER_* AWS_EC2_* AWS_PAGER"
        " AWS_CLI_* AWS_WEB_IDENTITY_* AWS_LAMBDA_* AWS_DATA_PATH BOTO* CLOUDSDK_*"
        " GOOGLE_EXTERNAL_* GCE_METADATA_* AZURE_CONFIG_* AZURE_EXTENSION_* AZURE_AUTHORITY_*",
    ),
    _family(
        "connections: proxies, trusted certificates, client libraries and their plugins",
        "HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY SSL_CERT_* SSLKEYLOGFILE OPENSSL_*"
        " CURL_* REQUESTS_CA_* WGETRC HTTPIE_* GNUTLS_* KRB5* SASL_PATH LDAPCONF LDAPRC LDAPTLS_*"
        " ODBC* PSQL* PGSERVICE* PGSYSCONFDIR PGSSL* PGOPTIONS MYSQL_HOME LIBMYSQL_* ORACLE_HOME"
        " ORACLE_PATH SQLPATH TNS_ADMIN REDISCLI_RCFILE PRISMA_* GRPC_DEFAULT_* HF_*",
    ),
    _family(
        "graphics, sound, parallel programs, checkers: plugins and files that are written",
        "QT_* GTK_* GDK_* GIO_* GI_* GST_* GSETTINGS_* LIBGL_* MESA_* VK_* OCL_* DBUS_* DISPLAY"
        " WAYLAND_* XAUTHORITY ALSA_* PULSE_* LADSPA_* LV2_* FONTCONFIG_* MAGICK_* CUDA_* OMPI_*"
        " PMIX_* OMP_* VALGRIND_* ASAN_* LSAN_* MSAN_* TSAN_* UBSAN_* GCOV_* DEBUGINFOD_* QEMU_*"
        " WINE*",
    ),
)
"""The list. A pattern that covers too much costs its user one option; one that is missing, code."""

_PATTERNS = [pattern for family in FAMILIES for pattern in family.patterns]
_PREFIXES = tuple(pattern.removesuffix("*") for pattern in _PATTERNS if pattern.endswith("*"))
_NAMES = frozenset(pattern for pattern in _PATTERNS if not pattern.endswith("*"))

# `PGPASSWORD` has no underscore. No program is known that takes code, options, a file or an
# address from a variable with one of these endings: the programs' names end in `_ASKPASS`,
# `_PASSCOMMAND`, `_PASSWORD_FILE` or `_KEY_CMD`.
_ENDS_LIKE_A_SECRET = re.compile(
    r".*(_KEY|_KEY_ID|_TOKEN|_SECRET|_PASS|PASSWORD|_PASSPHRASE|_CREDENTIALS)"
)
# An address decides whom a program talks to, and some drivers load code that it names. So it is
# passed by default only where the owner chose it.
_ENDS_LIKE_AN_ADDRESS = re.compile(r".*_DSN|(DATABASE|REDIS)_URL")

_OURS = "SEALSPACE_"


def ends_like_a_secret(name: str) -> bool:
    """Return whether the name says that the value is a secret, and nothing else."""
    return _ENDS_LIKE_A_SECRET.fullmatch(name) is not None


def directs_programs(name: str) -> bool:
    """Return whether an environment variable can direct a program's code or connections (CL6)."""
    # CL5: a `SEALSPACE_TOKEN` among the secrets would be the session of the child's commands.
    if name.startswith(_OURS):
        return True
    is_listed = name in _NAMES or name.startswith(_PREFIXES)
    return is_listed and not ends_like_a_secret(name)


def is_passed_by_default(name: str, *, chosen_by_others: bool) -> bool:
    """Return whether a secret is passed to a command without being named on its line (CL1).

    Args:
        name: the name of the variable.
        chosen_by_others: whether the secret is of another owner than the user.
    """
    if directs_programs(name):
        return False
    if ends_like_a_secret(name):
        return True
    return not chosen_by_others and _ENDS_LIKE_AN_ADDRESS.fullmatch(name) is not None
