# Debian packages, one list for building and serving, one more for the tests.
DEPS_BUILD = \
	gcc make pkg-config ca-certificates xz-utils \
	postgresql-$(PG_MAJOR) postgresql-server-dev-$(PG_MAJOR) libpq-dev \
	libh2o-evloop-dev libcurl4-openssl-dev libssl-dev libsodium-dev zlib1g-dev \
	libarchive-dev nettle-dev libpcre2-dev libjansson-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler \
	libssh-dev libhttp-parser-dev libyaml-dev bubblewrap nodejs npm

DEPS_TEST = \
	postgresql-$(PG_MAJOR)-pgtap libtap-parser-sourcehandler-pgtap-perl libipc-run-perl libcpanel-json-xs-perl \
	libcmocka-dev clang libclang-rt-14-dev wireguard-go wireguard-tools iproute2 \
	chromium fonts-dejavu-core openssh-client openssl wrk curl git prometheus \
	tigervnc-standalone-server openbox xterm x11-utils xdotool xclip ffmpeg
