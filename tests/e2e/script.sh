#!/usr/bin/env bash
# The release script that bluegreen takes the place of, step by step as its users have it in CodeDeploy's
# ApplicationStart hook. Kept as it is, with its faults: it is what the compatible mode is measured by.
#
#   script.sh HOME NGINX_CONF
#
# Two things differ, and neither changes what it leaves: JSON is read by python3 where theirs has jq, and the login
# is not made here, because it would stay on this machine (DOCKER_CONFIG has it already). The chmod of Docker's
# socket is left out, because nobody should ever run it. NO_PULL is for images that no registry has.
set -u
home=$1 conf=$2
definitions=$home/build/imagedefinitions.json

# 1. read the input: a single object
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2]) or "")' "$definitions" "$1"; }
name=$(field name) image=$(field imageUri)
if [ -z "$name" ] || [ -z "$image" ]; then
  echo "name or imageUri is missing in $definitions"
  exit 1
fi

# 3. pull
[ -n "${NO_PULL:-}" ] || docker pull "$image" || exit 1

# 4. find the colour
running=$(docker ps | grep "$name" | awk '{ print $NF }')
case $running in
  *"$name-3000"*) current=3000 target=4000 ;;
  *"$name-4000"*) current=4000 target=3000 ;;
  *) current='' target=3000 ;;
esac

# 5. start
docker rm -f "$name-$target" >/dev/null 2>&1
docker run -d --name "$name-$target" --network dev -p "$target:3000" "$image" || exit 1

# 6. wait, 7. on failure
ready=''
for _ in $(seq 1 30); do
  if docker logs "$name-$target" 2>&1 | tail -n 1 | grep -q 'localhost:3000'; then ready=yes; break; fi
  sleep 1
done
if [ -z "$ready" ]; then
  echo "$name-$target did not start"
  docker rm -f "$name-$target"
  docker rmi "$image"
  exit 1
fi

# 8. switch
if [ -n "$current" ]; then
  sed -i "s/$name-$current/$name-$target/g" "$conf"
fi
docker exec nginx nginx -s reload

# 9. retire
if [ -n "$current" ]; then
  docker stop "$name-$current"
  docker rm "$name-$current"
fi

# 10. prune: all <none> images of the host go in theirs. Those of other people are not for a test to remove.
echo completed
