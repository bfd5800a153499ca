#!/usr/bin/env python3
"""A root file system from Debian packages of any suite, without debootstrap and without a registry.

usage: mkroot.py SUITE DESTINATION CACHE PACKAGE...

The packages come from the mirror that apt on this machine uses; nothing else is asked. Dependencies are
resolved naively: the first alternative of each, and no maintainer script runs. That is enough to run a
daemon such as nginx. Prints one line "PACKAGE VERSION" for each package installed.
"""
import glob
import hashlib
import lzma
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

# What nginx names as a dependency and does not need to run, mostly for its maintainer scripts.
SKIP = {
    "adduser", "debconf", "dpkg", "init-system-helpers", "iproute2", "lsb-base", "media-types", "passwd",
    "systemd", "systemd-standalone-sysusers", "sysvinit-utils", "ucf", "openssl-provider-legacy",
}
EXCLUDE = ["./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./usr/share/lintian"]


def mirrors():
    """Base addresses in apt's configuration, one-line and deb822 style."""
    found = []
    files = ["/etc/apt/sources.list"]
    for ending in ("list", "sources"):
        files += sorted(glob.glob(f"/etc/apt/sources.list.d/*.{ending}"))
    for name in files:
        try:
            with open(name, encoding="utf-8") as file:
                text = re.sub(r"^#.*\n", "", file.read(), flags=re.M)
        except OSError:
            continue
        if name.endswith(".sources"):
            for block in re.split(r"\n\s*\n", text):
                field = re.search(r"^URIs:((?:.*)(?:\n[ \t].*)*)", block, re.M | re.I)
                found += field.group(1).split() if field else []
        else:
            found += re.findall(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)", text, re.M)
    found = [uri.rstrip("/") for uri in found if uri.startswith(("http://", "https://"))]
    return list(dict.fromkeys(found))


def use_apts_proxy():
    try:
        answer = subprocess.run(["apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy"],
                                capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return
    if answer.startswith("http"):
        handler = urllib.request.ProxyHandler({"http": answer, "https": answer})
        urllib.request.install_opener(urllib.request.build_opener(handler))


def fetch(uri, path, sha256=None):
    if not os.path.exists(path):
        with urllib.request.urlopen(uri, timeout=60) as answer:
            data = answer.read()
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            sys.exit(f"mkroot: {os.path.basename(path)} is not what the index says")
        with open(f"{path}.{os.getpid()}", "wb") as file:
            file.write(data)
        os.rename(f"{path}.{os.getpid()}", path)
    return path


def index(suite, cache, architecture):
    """The mirror that has the suite, its packages, and who provides which virtual package."""
    path = os.path.join(cache, f"Packages.{suite}.{architecture}.xz")
    known = mirrors()
    for mirror in known:
        where = f"{mirror}/dists/{suite}/main/binary-{architecture}/Packages.xz"
        try:
            # An older index may name packages that the mirror has replaced since: always a fresh one.
            if os.path.exists(path):
                os.remove(path)
            fetch(where, path)
            break
        except (urllib.error.URLError, OSError):
            continue
    else:
        sys.exit(f"mkroot: no mirror in apt's configuration has Debian's {suite} ({len(known)} asked)")
    packages, provided = {}, {}
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for block in file.read().split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", block, re.M))
            if "Package" in fields:
                packages[fields["Package"]] = fields
                for name in fields.get("Provides", "").split(","):
                    if name.strip():
                        provided.setdefault(name.split()[0], fields["Package"])
    return mirror, packages, provided


def resolve(wanted, packages, provided):
    chosen, todo = [], list(wanted)
    while todo:
        name = todo.pop(0)
        name = name if name in packages else provided.get(name, name)
        if name in chosen or name in SKIP:
            continue
        if name not in packages:
            sys.exit(f"mkroot: no package {name}")
        chosen.append(name)
        for field in ("Pre-Depends", "Depends"):
            for dependency in packages[name].get(field, "").split(","):
                first = dependency.split("|")[0].split()
                if first:
                    todo.append(first[0].split(":")[0])
    return chosen


def main():
    suite, destination, cache, *wanted = sys.argv[1:]
    os.makedirs(cache, exist_ok=True)
    use_apts_proxy()
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True,
                                  check=True).stdout.strip()
    mirror, packages, provided = index(suite, cache, architecture)
    # Since bookworm /bin, /sbin and /lib are links into /usr; older packages still carry the old paths.
    for name in ("bin", "sbin", "lib", "lib64"):
        os.makedirs(f"{destination}/usr/{name}", exist_ok=True)
        if not os.path.lexists(f"{destination}/{name}"):
            os.symlink(f"usr/{name}", f"{destination}/{name}")
    for name in resolve(wanted, packages, provided):
        fields = packages[name]
        deb = fetch(f"{mirror}/{fields['Filename']}", os.path.join(cache, os.path.basename(fields["Filename"])),
                    fields.get("SHA256"))
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-C", destination, "-x", "--keep-directory-symlink",
                        *(f"--exclude={path}" for path in EXCLUDE)], stdin=archive.stdout, check=True)
        if archive.wait() != 0:
            sys.exit(f"mkroot: {deb} cannot be unpacked")
        print(name, fields["Version"])
    for name in ("tmp", "run", "proc", "sys", "dev", "etc", "root", "var/log", "var/lib"):
        os.makedirs(f"{destination}/{name}", exist_ok=True)
    os.chmod(f"{destination}/tmp", 0o1777)
    # What the maintainer scripts would have made.
    files = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n"
                  "nobody:x:65534:65534::/:/bin/false\n",
        "group": "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    for name, text in files.items():
        with open(f"{destination}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)


main()
