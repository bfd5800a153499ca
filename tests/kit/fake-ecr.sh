#!/usr/bin/env bash
# Amazon ECR on one machine, for a program and a dockerd that are not told: the API is moto's, the images lie
# in Debian's docker-registry behind TLS and basic auth at the real ECR host name.
#
#   fake-ecr.sh start                 make sure that both run
#   fake-ecr.sh env                   print NAME=VALUE lines for the client
#   fake-ecr.sh push IMAGE REPO:TAG   push a local image; prints "URI DIGEST"
#   fake-ecr.sh deny | allow          revoke, restore what the token is good for
#   fake-ecr.sh down | up             stop, start the registry alone
#   fake-ecr.sh break REPO:TAG        delete the layers, keep the manifest: a pull fails half way
#   fake-ecr.sh forget REPO           the API no longer knows the repository
#   fake-ecr.sh purge                 end both and undo all of it
#
# FAKE_ECR_ID (0-16000) picks the account number, the network namespace and every address: instances with
# different numbers never meet. FAKE_ECR_DIR holds the state. Needs root; restarts no dockerd, which reads
# certs.d at each pull.
set -euo pipefail

id=${FAKE_ECR_ID:?a number} dir=${FAKE_ECR_DIR:?a directory}
moto_server=${FAKE_ECR_MOTO:-moto_server}
region=ap-northeast-2
account=$(printf '9%011d' "$id")
host=$account.dkr.ecr.$region.amazonaws.com
password=$account-auth-token # what moto puts into its authorization token
ns=bgt-ecr-$id
# Not in 127.0.0.0/8: dockerd takes that range for insecure, falls back to http, and every error differs from
# those of ECR. Each instance has a /30 of its own.
net=10.$((250 + id / 8192)).$((id % 8192 / 32)).$((id % 32 * 8))
peer=${net%.*}.$((${net##*.} + 1)) ip=${net%.*}.$((${net##*.} + 2))
moto=http://127.$((80 + id / 8192)).$((id % 8192 / 32)).$((id % 32 * 8 + 1)):5566
certs=/etc/docker/certs.d/$host
mark="# bluegreen-testkit $host"

die() { echo "fake-ecr: $*" >&2; exit 1; }
wait_for() { # SECONDS COMMAND...
  local n=$(($1 * 20)); shift
  until "$@" >/dev/null 2>&1; do n=$((n - 1)); [ $n -gt 0 ] || return 1; sleep 0.05; done
}
pid_of() { # NAME: the pid we noted, when it is still that process
  local pid start now
  read -r pid start 2>/dev/null <"$dir/$1.pid" || return 1
  now=$(start_of "$pid") && [ "$now" = "$start" ] && echo "$pid"
}
start_of() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20; found = 1 } END { exit !found }'; }
note() { echo "$2 $(start_of "$2")" >"$dir/$1.pid"; }
end() { # NAME
  local pid
  if pid=$(pid_of "$1"); then
    kill "$pid" 2>/dev/null || true
    wait_for 5 gone "$pid" || kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$dir/$1.pid"
}
gone() { ! start_of "$1"; }
set_password() { htpasswd -Bbn AWS "$1" >"$dir/htpasswd.new" && mv "$dir/htpasswd.new" "$dir/htpasswd"; }
registry() { # PATH CURL-OPTIONS...
  local path=$1; shift
  curl -sS --max-time 20 --noproxy '*' --resolve "$host:443:$ip" --cacert "$dir/tls.crt" -u "AWS:$password" "$@" "https://$host/v2/$path"
}
api() { # OPERATION JSON-OR-@FILE; moto looks at the scope of the signature, not at the signature
  curl -sS --fail-with-body --max-time 20 --noproxy '*' -X POST "$moto/" -H "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.$1" \
    -H 'Content-Type: application/x-amz-json-1.1' -d "$2" \
    -H "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/$region/ecr/aws4_request, SignedHeaders=host, Signature=0"
}
# /etc/hosts belongs to everybody: one writer at a time, and no reader ever sees half of it, except where it is a
# bind mount, which nothing can take the place of.
hosts() ( # add | remove
  exec 9>/run/lock/bluegreen-testkit-hosts
  flock 9
  rest=$(grep -vF "$mark" /etc/hosts || true)
  [ "$1" = remove ] || rest+=$'\n'"$ip $host $mark"
  cp -p /etc/hosts /etc/hosts.bluegreen-testkit
  printf '%s\n' "$rest" >/etc/hosts.bluegreen-testkit
  mv -f /etc/hosts.bluegreen-testkit /etc/hosts 2>/dev/null && return
  cat /etc/hosts.bluegreen-testkit >/etc/hosts
  rm /etc/hosts.bluegreen-testkit
)

start_registry() {
  pid_of registry >/dev/null && return
  local program; program=$(PATH=$PATH:/usr/sbin command -v docker-registry) || die "no docker-registry: ./scripts/install-deps"
  nsenter --net="/run/netns/$ns" "$program" serve "$dir/registry.yml" </dev/null >>"$dir/registry.log" 2>&1 &
  note registry $!
  wait_for 15 registry "" --fail || { tail -5 "$dir/registry.log" >&2; die "the registry does not come up"; }
}
start() {
  [ "$(id -u)" = 0 ] || die "needs root: a network namespace, /etc/hosts and /etc/docker/certs.d"
  mkdir -p "$dir/data" "$certs"
  if [ ! -e "/run/netns/$ns" ]; then
    ip netns add "$ns"
    ip link add "bgte$id" type veth peer name eth0 netns "$ns"
    ip addr add "$peer/30" dev "bgte$id"
    ip link set "bgte$id" up
    nsenter --net="/run/netns/$ns" sh -c "ip link set lo up; ip addr add $ip/30 dev eth0; ip link set eth0 up"
  fi
  [ -s "$dir/tls.crt" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -keyout "$dir/tls.key" -out "$dir/tls.crt" -subj "/CN=fake-ecr" -addext "subjectAltName=DNS:$host,IP:$ip" 2>/dev/null
  cp "$dir/tls.crt" "$certs/ca.crt"
  [ -s "$dir/htpasswd" ] || set_password "$password"
  grep -qF "$mark" /etc/hosts || hosts add
  cat >"$dir/registry.yml" <<Y
version: 0.1
log: { level: warn }
storage: { filesystem: { rootdirectory: $dir/data }, delete: { enabled: true } }
http: { addr: "$ip:443", tls: { certificate: $dir/tls.crt, key: $dir/tls.key } }
auth: { htpasswd: { realm: "https://$host/", path: $dir/htpasswd } }
Y
  start_registry
  if ! pid_of moto >/dev/null; then
    MOTO_ACCOUNT_ID=$account "$moto_server" -H "${moto:7:-5}" -p 5566 </dev/null >>"$dir/moto.log" 2>&1 &
    note moto $!
    wait_for 40 curl -sf --noproxy '*' "$moto/moto-api/" || { tail -5 "$dir/moto.log" >&2; die "moto does not come up"; }
  fi
}
push() { # IMAGE REPO:TAG
  local repo=${2%:*} tag=${2##*:} work digest pushed=
  [ "$repo" != "$2" ] || die "push wants REPO:TAG"
  work=$(mktemp -d "$dir/push.XXXXXX")
  # A client configuration of its own: the machine's must not learn this password.
  mkdir "$work/docker"
  printf '{"auths":{"%s":{"auth":"%s"}}}' "$host" "$(printf 'AWS:%s' "$password" | base64 -w0)" >"$work/docker/config.json"
  docker tag "$1" "$host/$2"
  # dockerd keeps what it read of /etc/hosts for 5 s, so a name that was added just now may not be known yet.
  for _ in {1..70}; do
    if docker --config "$work/docker" push -q "$host/$2" >/dev/null 2>"$work/said"; then pushed=1; break; fi
    grep -q 'no such host' "$work/said" || break
    sleep 0.1
  done
  [ -n "$pushed" ] || { cat "$work/said" >&2; exit 1; }
  # Who deploys it must have to pull it.
  docker rmi "$host/$2" >/dev/null
  registry "$repo/manifests/$tag" --fail -D "$work/head" -o "$work/manifest" \
    -H 'Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json'
  api DescribeRepositories "{\"repositoryNames\":[\"$repo\"]}" >/dev/null 2>&1 ||
    api CreateRepository "{\"repositoryName\":\"$repo\"}" >/dev/null
  # The API has to name the digest that the registry serves.
  digest=$(tr -d '\r' <"$work/head" | awk 'tolower($1) == "docker-content-digest:" { print $2 }')
  python3 - "$repo" "$tag" "$digest" "$work/manifest" >"$work/put" <<'P'
import json, sys
repo, tag, digest, path = sys.argv[1:]
text = open(path).read()
json.dump({"repositoryName": repo, "imageTag": tag, "imageDigest": digest, "imageManifest": text,
           "imageManifestMediaType": json.loads(text)["mediaType"]}, sys.stdout)
P
  api PutImage "@$work/put" >"$work/answer" 2>&1 || grep -q ImageAlreadyExists "$work/answer" || { cat "$work/answer" >&2; exit 1; }
  rm -rf "$work"
  echo "$host/$2 $digest"
}
break_layers() { # REPO:TAG
  local repo=${1%:*} tag=${1##*:} digest
  registry "$repo/manifests/$tag" --fail -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' |
    python3 -c 'import json, sys; [print(layer["digest"]) for layer in json.load(sys.stdin)["layers"]]' |
    while read -r digest; do
      registry "$repo/blobs/$digest" --fail -X DELETE
      rm -rf "$dir/data/docker/registry/v2/blobs/sha256/${digest:7:2}/${digest:7}"
    done
}
purge() {
  end registry
  end moto
  ip link del "bgte$id" 2>/dev/null || true
  if [ -e "/run/netns/$ns" ]; then ip netns del "$ns"; fi
  rm -rf "$certs"
  rmdir /etc/docker/certs.d 2>/dev/null || true
  if grep -qF "$mark" /etc/hosts; then hosts remove; fi
  rm -rf "${dir:?}"
}

case ${1:-} in
  start) start ;;
  env) printf '%s\n' "AWS_ENDPOINT_URL=$moto" "AWS_REGION=$region" AWS_ACCESS_KEY_ID=test \
    AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true "FAKE_ECR_HOST=$host" "FAKE_ECR_PASSWORD=$password" ;;
  push) [ $# = 3 ] || die "push IMAGE REPO:TAG"; push "$2" "$3" ;;
  deny) set_password "revoked-$RANDOM$RANDOM" ;;
  allow) set_password "$password" ;;
  down) end registry ;;
  up) start_registry ;;
  break) break_layers "${2:?REPO:TAG}" ;;
  forget) api DeleteRepository "{\"repositoryName\":\"${2:?REPO}\",\"force\":true}" >/dev/null ;;
  purge) purge ;;
  *) sed -n '2,/^set -/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
