"""Environment variables that control how programs run."""

# Variables of the dynamic loader, of bash, of git's and npm's configuration, of configuration
# folders, and our own. A secret with such a name would let its writer run code in the child.
_PREFIXES = ("LD_", "DYLD_", "BASH_", "GIT_CONFIG", "GIT_SSH", "NPM_CONFIG_", "XDG_", "SEALSPACE_")
# Where programs and their start-up files are searched.
_SEARCHED = """
    PATH HOME SHELL USER LOGNAME PWD CDPATH TMPDIR IFS ENV SHELLOPTS BASHOPTS ZDOTDIR PROMPT_COMMAND
    PS4 TERMINFO GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES HOSTALIASES GNUPGHOME CARGO_HOME GOPATH
    JAVA_HOME GEM_HOME AWS_CONFIG_FILE KUBECONFIG PIP_CONFIG_FILE BUNDLE_GEMFILE VIMINIT EXINIT
"""
# Helper programs that other programs start.
_STARTED = """
    EDITOR VISUAL PAGER MANPAGER BROWSER LESSOPEN LESSCLOSE GIT_EXEC_PATH GIT_PROXY_COMMAND
    GIT_ASKPASS GIT_EDITOR GIT_PAGER GIT_EXTERNAL_DIFF GIT_TEMPLATE_DIR SSH_ASKPASS SUDO_ASKPASS
"""
# Options and library paths of interpreters and build tools.
_INTERPRETED = """
    NODE_OPTIONS NODE_PATH PERL5LIB PERL5OPT PERL5DB PERLLIB RUBYOPT RUBYLIB CLASSPATH
    JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS JAVA_OPTS MAVEN_OPTS GRADLE_OPTS PHPRC PHP_INI_SCAN_DIR
    LUA_PATH LUA_CPATH LUA_INIT GOFLAGS RUSTC RUSTC_WRAPPER RUSTFLAGS CARGO_BUILD_RUSTC
    CARGO_BUILD_RUSTC_WRAPPER MAKEFLAGS MAKEFILES GNUMAKEFLAGS CC CXX GEM_PATH DOTNET_STARTUP_HOOKS
    CORECLR_PROFILER CORECLR_PROFILER_PATH NODE_REPL_EXTERNAL_MODULE ERL_FLAGS R_PROFILE
"""
# Proxies and trusted certificates of connections.
_TRUSTED = """
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE OPENSSL_CONF
    OPENSSL_MODULES OPENSSL_ENGINES CURL_CA_BUNDLE CURL_HOME REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS
    NODE_TLS_REJECT_UNAUTHORIZED GIT_SSL_NO_VERIFY DOCKER_HOST PIP_TRUSTED_HOST
"""
_NAMES = frozenset(f"{_SEARCHED} {_STARTED} {_INTERPRETED} {_TRUSTED}".split())


def directs_programs(name: str) -> bool:
    """Return whether an environment variable can redirect a program's code or connections.

    Such a variable is dangerous to set.
    """
    # Python's own variables are like PYTHONPATH; PYTHON_API_KEY is a user's name.
    is_pythons = name.startswith("PYTHON") and not name.startswith("PYTHON_")
    return name in _NAMES or name.startswith(_PREFIXES) or is_pythons
