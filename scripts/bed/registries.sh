# shellcheck shell=bash
# Four registries on loopback: open, with tokens (and their token server), with basic credentials, and an open one of
# another make: distribution 3, where the others are Debian's distribution 2.8.

registry_start() { start_registry registry "$BED_PORT_REGISTRY" ""; }
registry_ready() { registry_answers registry "$BED_PORT_REGISTRY" 200; }
registry_env() {
  echo "BK_SYNC_TEST_REGISTRY=127.0.0.1:$BED_PORT_REGISTRY"
  echo "BK_SYNC_TEST_REGISTRY_LOG=$BED_LOGS/registry.access.log"
}

registry_token_start() {
  start_registry registry-token "$BED_PORT_REGISTRY_TOKEN" "auth:
  token:
    realm: http://127.0.0.1:$BED_PORT_TOKEN_SERVER/token
    service: bk-sync-testbed
    issuer: bk-sync-testbed
    rootcertbundle: $BED_STATE/token-server/cert.pem"
}
registry_token_ready() { registry_answers registry-token "$BED_PORT_REGISTRY_TOKEN" 401; }
registry_token_env() {
  echo "BK_SYNC_TEST_REGISTRY_TOKEN=127.0.0.1:$BED_PORT_REGISTRY_TOKEN"
  echo "BK_SYNC_TEST_REGISTRY_TOKEN_LOG=$BED_LOGS/registry-token.access.log"
  echo "BK_SYNC_TEST_TOKEN_SERVER_LOG=$BED_LOGS/token-server.log"
  echo "BK_SYNC_TEST_USERNAME=$BED_USERNAME"
  echo "BK_SYNC_TEST_PASSWORD=$BED_PASSWORD"
  echo "BK_SYNC_TEST_PULL_USERNAME=$BED_PULL_USERNAME"
  echo "BK_SYNC_TEST_PULL_PASSWORD=$BED_PULL_PASSWORD"
  echo "BK_SYNC_TEST_BRIEF_USERNAME=$BED_BRIEF_USERNAME"
  echo "BK_SYNC_TEST_BRIEF_PASSWORD=$BED_BRIEF_PASSWORD"
}

registry_basic_start() {
  # bcrypt of $BED_PASSWORD, kept here because Debian's base has no tool that makes one.
  # shellcheck disable=SC2016
  echo "$BED_USERNAME:"'$2a$05$FnaiqtoUrzwxY.JcZXVV6eJFiVImRi2TasDgXsYr2n9JrLd6abwMq' >"$BED_STATE/registry-basic.htpasswd"
  start_registry registry-basic "$BED_PORT_REGISTRY_BASIC" "auth:
  htpasswd:
    realm: bk-sync-testbed
    path: $BED_STATE/registry-basic.htpasswd"
}
registry_basic_ready() { registry_answers registry-basic "$BED_PORT_REGISTRY_BASIC" 401; }
registry_basic_env() {
  echo "BK_SYNC_TEST_REGISTRY_BASIC=127.0.0.1:$BED_PORT_REGISTRY_BASIC"
  echo "BK_SYNC_TEST_REGISTRY_BASIC_LOG=$BED_LOGS/registry-basic.access.log"
}

registry_second_start() {
  local config=$BED_RUN/registry-second.yml
  mkdir -p "$BED_STATE/registry-second"
  cat >"$config" <<YAML
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage:
  filesystem: {rootdirectory: $BED_STATE/registry-second}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$BED_PORT_REGISTRY_SECOND", secret: bk-sync-testbed}
YAML
  start_daemon registry-second env OTEL_TRACES_EXPORTER=none "$(readlink -f "$BED_BIN/distribution")" serve "$config"
}
registry_second_ready() { registry_answers registry-second "$BED_PORT_REGISTRY_SECOND" 200; }
registry_second_env() {
  echo "BK_SYNC_TEST_REGISTRY_SECOND=127.0.0.1:$BED_PORT_REGISTRY_SECOND"
  echo "BK_SYNC_TEST_REGISTRY_SECOND_LOG=$BED_LOGS/registry-second.access.log"
}

# start_registry NAME PORT AUTH: AUTH is the `auth` section of its configuration, or empty.
start_registry() {
  local name=$1 port=$2 auth=$3 config=$BED_RUN/$1.yml
  mkdir -p "$BED_STATE/$name"
  cat >"$config" <<YAML
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage:
  filesystem: {rootdirectory: $BED_STATE/$name}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$port", secret: bk-sync-testbed}
$auth
YAML
  start_daemon "$name" "$(readlink -f "$BED_BIN/docker-registry")" serve "$config"
}

registry_answers() {
  daemon_pid "$1" && [ "$(curl -sS --max-time 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$2/v2/")" = "$3" ]
}

# The token server: `bed` may push and pull, `bed-reader` only pull, and the tokens of `bed-brief` end after 3 s.
token_server_start() {
  local state=$BED_STATE/token-server
  mkdir -p "$state"
  if [ ! -e "$state/cert.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=bk-sync test bed tokens" \
      -keyout "$state/key.pem" -out "$state/cert.pem" >"$BED_LOGS/openssl.log" 2>&1 || return 1
  fi
  cat >"$state/users.json" <<JSON
[
  {"name": "$BED_USERNAME", "password": "$BED_PASSWORD", "actions": ["pull", "push", "delete", "*"]},
  {"name": "$BED_PULL_USERNAME", "password": "$BED_PULL_PASSWORD", "actions": ["pull"]},
  {"name": "$BED_BRIEF_USERNAME", "password": "$BED_BRIEF_PASSWORD", "actions": ["pull", "push"], "lifetime": 3}
]
JSON
  start_daemon token-server "$(readlink -f "$BED_BIN/tokenserver")" -listen "127.0.0.1:$BED_PORT_TOKEN_SERVER" \
    -cert "$state/cert.pem" -key "$state/key.pem" -users "$state/users.json"
}
token_server_ready() {
  daemon_pid token-server && [ "$(curl -sS --max-time 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$BED_PORT_TOKEN_SERVER/token")" = 200 ]
}
