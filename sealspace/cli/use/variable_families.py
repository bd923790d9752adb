"""The list of environment variables that direct programs (CL6), by families of programs.

Its rules are in `program_variables`. A page for users is generated from it.
"""

from capabilities.frozen import frozen


@frozen
class Family:
    """Variables of related programs.

    Attributes:
        what: the programs and what the variables do, for the page.
        names: names, prefixes of names with `*` at the end, and endings with `*` before them,
            separated by white space.
    """

    what: str
    names: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names, prefixes and endings."""
        return tuple(self.names.split())


FAMILIES = (
    Family(
        what="the loader of programs and the C library: libraries, converters, host names, traces",
        names="""
            LD_* DYLD_* LIBPATH GCONV_* GETCONF_* GLIBC_* LOCPATH NLSPATH TEXTDOMAIN* MALLOC_*
            HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_* TZDIR
        """,
    ),
    Family(
        what="folders in which programs and their settings are searched, and temporary files",
        names="""
            PATH HOME SHELL USER LOGNAME PWD OLDPWD CDPATH XDG_* TERMINFO* TERMCAP TMP* TEMP
            TEMPDIR
        """,
    ),
    Family(
        what="shells: files that are read at the start, prompts that are evaluated",
        names="""
            BASH* SHELLOPTS ENV IFS PS0 PS1 PS2 PS3 PS4 PROMPT_COMMAND ZDOTDIR FPATH MODULE_PATH
            NULLCMD READNULLCMD STTY GLOBIGNORE EXECIGNORE HISTFILE INPUTRC CONFIG_SHELL
            CONFIG_SITE
        """,
    ),
    Family(
        what="editors, pagers, browsers and other helpers that programs start",
        names="""
            EDITOR* VISUAL* PAGER* BROWSER* LESS* MANPAGER MANPATH MANOPT MANROFF* FCEDIT VIM
            VIMINIT VIMRUNTIME GVIMINIT NVIM_* EXINIT EMACS* LYNX_* BAT_* DELTA_* MAILCAPS
            MAILRC MAILER SUDO_* SYSTEMD_* DIRENV_* MISE_* ASDF_* SCREENRC STARSHIP_* RIPGREP_*
            FZF_* TEXMF* TEXINPUTS TEXEDIT GS_*
        """,
    ),
    Family(
        what="version control and ssh: commands, hooks, configuration",
        names="""
            GIT_* GH_CONFIG_* GH_EDITOR GH_BROWSER GH_PAGER GH_PATH GH_HOST HG HGRCPATH HGEDITOR
            HGMERGE SVN_* CVS* P4CONFIG P4ENVIRO P4EDITOR P4DIFF* P4MERGE P4PAGER JJ_* FOSSIL_*
            GNUPGHOME SSH_ASKPASS* SSH_AUTH_SOCK SSH_SK_* SSH_PKCS11_*
        """,
    ),
    Family(
        what="copies and archives: options, remote shells, commands for passwords",
        names="""
            RSYNC_* RSH TAR_* TAPE RMT GZIP BZIP* XZ_* ZSTD_* ZIP ZIPOPT UNZIP UNZIPOPT ZIPINFO*
            BORG_* RESTIC_* RCLONE_* GREP_* BC_*
        """,
    ),
    Family(
        what="Python: modules, plugins, settings and package indexes",
        names="""
            PYTHON* PYTEST* PIP_* PIPX_* PIPENV_* UV_* POETRY_* PDM_* HATCH_* TOX_* NOX_*
            CONDA_* MAMBA_* VIRTUALENV_* VIRTUAL_ENV PYENV_* TWINE_* SETUPTOOLS_* DISTUTILS_*
            COVERAGE_* MYPY* IPYTHON* JUPYTER_* MPL* DJANGO_SETTINGS* FLASK_APP FLASK_DEBUG
            FLASK_ENV GUNICORN_* UVICORN_* CELERY_LOADER CELERY_CONFIG* CELERY_APP SCRAPY_*
            AIRFLOW_* PRE_COMMIT_*
        """,
    ),
    Family(
        what="JavaScript: options, preloaded modules, registries, browsers",
        names="""
            NODE_* NPM_* YARN_* PNPM_* BUN_* DENO_* COREPACK_* NVM_* VOLTA_* FNM_* TS_NODE_*
            TSX_* BABEL_* ESBUILD_* ELECTRON_* PUPPETEER_* PLAYWRIGHT_* CHROME_DEVEL_*
            CHROME_PATH CHROMIUM_*
        """,
    ),
    Family(
        what="Ruby, Perl, Lua, PHP, R, Tcl, Awk: options, libraries, start-up files",
        names="""
            RUBY* GEM_* BUNDLE* RAKE* RBENV_* JRUBY_* TRUFFLERUBYOPT SPEC_OPTS IRBRC PRYRC PERL*
            HARNESS_* DBI_* LUA* PHP* COMPOSER_* XDEBUG_* R_* RENV_* TCL* AWK* GAWK_*
        """,
    ),
    Family(
        what="Erlang, Elixir, Haskell, OCaml, Julia, Scheme, Racket, Dart: options, packages",
        names="""
            ERL* ESCRIPT_* DIALYZER_* REBAR* ELIXIR_* MIX_* HEX_* IEX_* GHC_* GHCRTS CABAL_*
            STACK_ROOT STACK_YAML STACK_CONFIG OCAML* CAML* OPAM* JULIA_* GUILE_* PLT* SBCL_*
            OCTAVE_* DART_* PUB_* FLUTTER_* CRYSTAL_*
        """,
    ),
    Family(
        what="Java and its tools: options, agents, class paths",
        names="""
            JAVA_* JDK_* JRE_* JVM_* CLASSPATH MAVEN_* GRADLE_* ANT_* SBT_* COURSIER_* KOTLIN_*
            SCALA_* GROOVY_* CLJ_* LEIN_* CATALINA_* LOG4J_* KAFKA_OPTS KAFKA_JVM_*
            KAFKA_LOG4J_* KAFKA_HEAP_* ES_JAVA_* LS_JAVA_* IBM_JAVA_* OPENJ9_* SPARK_* HADOOP_*
            LOGGING_CONFIG
        """,
    ),
    Family(
        what=".NET: start-up hooks, profilers, packages",
        names="""
            DOTNET_* CORECLR_* COR_* COMPLUS_* NUGET_* MSBUILD* ASPNETCORE_* MONO_*
        """,
    ),
    Family(
        what="Go and Rust: tools, flags, proxies of modules",
        names="""
            GOFLAGS GOPROXY GOPATH GOROOT GOENV GOBIN GOCACHE* GOTOOL* GOSUMDB GONOSUMDB
            GONOPROXY GOPRIVATE GOINSECURE GOMODCACHE GOTMPDIR GODEBUG GOAUTH GOVCS GOWORK CGO_*
            GCCGO* CARGO* RUST* SCCACHE_*
        """,
    ),
    Family(
        what="compilers and builds: programs, flags, search paths",
        names="""
            MAKE* MFLAGS GNUMAKE* NINJA_* CMAKE_* MESON_* SCONS* BAZEL_* KBUILD_* CC CXX CPP LD
            AR AS NM RANLIB STRIP FC F77 YACC LEX CFLAGS CPPFLAGS CXXFLAGS LDFLAGS LDLIBS
            ARFLAGS FFLAGS FCFLAGS YFLAGS LFLAGS GCC_* COMPILER_PATH LIBRARY_PATH CPATH
            C_INCLUDE_PATH CPLUS_INCLUDE_PATH OBJC_INCLUDE_PATH DEPENDENCIES_OUTPUT CCACHE_*
            DISTCC_* CLANG_* LLVM_* PKG_CONFIG* ACLOCAL* AUTOCONF AUTOMAKE AUTOM4TE* LIBTOOL*
            M4* NIX_* GUIX_* VCPKG_* CONAN_* DEB_* DEBUILD_* DPKG_* APT_* RPM_* HOMEBREW_*
            JUST_*
        """,
    ),
    Family(
        what="infrastructure: plugins, contexts, addresses of daemons",
        names="""
            TF_CLI_* TF_PLUGIN_* TF_DATA_DIR TF_REATTACH_* TF_ENCRYPTION TERRAGRUNT_* TG_*
            PACKER_* VAGRANT_* PULUMI_* ANSIBLE_* KUBECONFIG KUBECTL_* KUBE_EDITOR HELM_*
            SKAFFOLD_* KREW_* ARGOCD_OPTS DOCKER_HOST DOCKER_CONFIG DOCKER_CONTEXT DOCKER_CERT_*
            DOCKER_TLS* DOCKER_CLI_* DOCKER_CONTENT_* DOCKER_BUILD* DOCKER_DEFAULT_* BUILDX_*
            BUILDKIT_* BUILDAH_* COMPOSE_* PODMAN_* CONTAINER_HOST CONTAINERS_*
            REGISTRY_AUTH_FILE SOPS_* CLAUDE_CONFIG* CODEX_HOME
        """,
    ),
    Family(
        what="clouds: files that name commands for credentials, addresses, wrappers",
        names="""
            AWS_CONFIG_* AWS_SHARED_* AWS_ENDPOINT_* AWS_CA_* AWS_CONTAINER_* AWS_EC2_*
            AWS_PAGER AWS_CLI_* AWS_WEB_IDENTITY_* AWS_LAMBDA_* AWS_DATA_PATH BOTO* CLOUDSDK_*
            GOOGLE_EXTERNAL_* GCE_METADATA_* AZURE_CONFIG_* AZURE_EXTENSION_* AZURE_AUTHORITY_*
        """,
    ),
    Family(
        what="connections: proxies, trusted certificates, client libraries and their plugins",
        names="""
            HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY SSL_CERT_* SSLKEYLOGFILE
            OPENSSL_* CURL_* REQUESTS_CA_* WGETRC HTTPIE_* GNUTLS_* KRB5* SASL_PATH LDAPCONF
            LDAPRC LDAPTLS_* ODBC* PSQL* PGSERVICE* PGSYSCONFDIR PGSSL* PGOPTIONS MYSQL_HOME
            LIBMYSQL_* ORACLE_HOME ORACLE_PATH SQLPATH TNS_ADMIN REDISCLI_RCFILE PRISMA_*
            GRPC_DEFAULT_* HF_* SYSTEM_WGETRC NETRC LFTP_* PGHOST* PGPASSFILE MYSQL_HOST
            SPRING_* KUBERNETES_MASTER LIBVIRT_* VAULT_* OTEL_* FLYWAY_* KOPIA_*
            PASSWORD_STORE_* OPENSC_* PKCS11_* TPM2TOOLS_*
        """,
    ),
    Family(
        what="builds and languages: drivers, versions and binaries that are fetched or run",
        names="""
            GOPACKAGESDRIVER USE_BAZEL_VERSION BAZELISK_* MVNW_* NAPI_RS_* SWC_* TURBO_* BIOME_*
            SASS_* CYPRESS_* CHROME_BIN DEVELOPER_DIR SWIFT_EXEC PYLINTRC UWSGI_* QUART_*
            LOCUST_* ROBOT_* DASK_* NUMBA_* TORCH_HOME MATPLOTLIBRC IMAGEIO_* FFMPEG_*
            RETICULATE_* MATLABPATH SPACK_* SDKMAN_* TFENV_* NIXPKGS_* CF_PLUGIN_HOME GITHUB_ENV
            GITHUB_PATH MODULEPATH SKIM_* ALTERNATE_EDITOR MAILPATH BZR_* DARCS_*
        """,
    ),
    Family(
        what="graphics, sound, parallel programs, checkers: plugins and files that are written",
        names="""
            QT_* GTK_* GDK_* GIO_* GI_* GST_* GSETTINGS_* LIBGL_* MESA_* VK_* OCL_* DBUS_*
            DISPLAY WAYLAND_* XAUTHORITY ALSA_* PULSE_* LADSPA_* LV2_* FONTCONFIG_* MAGICK_*
            CUDA_* OMPI_* PMIX_* OMP_* VALGRIND_* ASAN_* LSAN_* MSAN_* TSAN_* UBSAN_* GCOV_*
            DEBUGINFOD_* QEMU_* WINE* NCCL_* HDF5_* GDAL_* GVBINDIR LIBVA_*
        """,
    ),
    Family(
        what="keys in hardware: settings of the libraries that reach them",
        names="""
            COSIGN_PKCS11_* P11_KIT_* SOFTHSM* YUBIHSM_PKCS11_* TPM2_PKCS11_* TSS2_* PCSCLITE_*
            NOTATION_* STEPPATH
        """,
    ),
    Family(
        what="any program: a library, module, plugin, driver or engine that it loads",
        names="""
            *_MODULE *_MODULES *_MODULE_PATH *_MODULES_PATH *_LIB *_LIBS *_LIBRARY *_LIBRARIES
            *_LIB_PATH *_LIB_DIR *_LIBRARY_PATH *_LIBRARY_DIR *_DLL *_DLL_PATH *_PRELOAD
            *_PLUGIN *_PLUGINS *_PLUGIN_PATH *_PLUGIN_DIR *_PLUGINS_PATH *_PLUGINS_DIR
            *_PLUGIN_FOLDER *_EXTENSION_DIR *_EXTENSIONS_DIR *_DRIVER_PATH *_DRIVERS_PATH
            *_DRIVER_DIR *_ENGINE_PATH *_ENGINES_PATH *_PROVIDER_PATH *_PROVIDERS_PATH
            *_CLASSPATH *_CLASS_PATH *_JAVA_OPTS *_JVM_OPTS *_LAUNCHER *_WRAPPER *_ASKPASS
            *_PASSCOMMAND *_KEY_CMD *_PASSWORD_COMMAND *_TOKEN_COMMAND
        """,
    ),
)
"""The list. A pattern that covers too much costs the user one option. Without a pattern for a
variable, whoever may write a secret of that name could run code."""
