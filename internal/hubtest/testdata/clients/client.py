"""Asks a Hub everything that huggingface_hub can ask, and prints what it got.

    client.py ENDPOINT TOKEN CACHE  <  {"repo":, "gated":, "old":, "file":, "large":, "author":, "commit":, "missing":}
"""

import json
import os
import sys

endpoint, token, cache = sys.argv[1:]
os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_CACHE=cache, HF_HOME=cache + "/home", HF_HUB_DISABLE_XET="1",
                  HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")

from huggingface_hub import HfApi, hf_hub_download, snapshot_download  # noqa: E402
from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url  # noqa: E402

ask = json.load(sys.stdin)
api = HfApi(token=token)
anonymous = HfApi(token=False)


def refusal(call):
    try:
        call()
    except errors.HfHubHTTPError as e:
        return [type(e).__name__, e.response.status_code]
    except Exception as e:
        return [type(e).__name__, 0]
    return ["none", 200]


info = api.model_info(ask["repo"], files_metadata=True)
meta = get_hf_file_metadata(hf_hub_url(ask["repo"], ask["large"]), token=token)
small = get_hf_file_metadata(hf_hub_url(ask["repo"], ask["file"]), token=token)
tree = list(api.list_repo_tree(ask["repo"], recursive=True))
refs = api.list_repo_refs(ask["repo"], include_pull_requests=True)
files = {
    "main": hf_hub_download(ask["repo"], ask["file"], token=token),
    "large": hf_hub_download(ask["repo"], ask["large"], token=token),
    "commit": hf_hub_download(ask["repo"], ask["file"], revision=ask["commit"], token=token),
    "pr": hf_hub_download(ask["repo"], ask["file"], revision="refs/pr/1", token=token),
    "old": hf_hub_download(ask["old"], ask["file"], token=token),
    "gated": hf_hub_download(ask["gated"], ask["file"], token=token),
}
json.dump({
    "list": api.list_repo_files(ask["repo"]),
    "tree": sorted(e.path for e in tree),
    "paths": sorted(e.path for e in api.get_paths_info(ask["repo"], [ask["file"], ask["large"], ask["missing"]])),
    "info": {"id": info.id, "sha": info.sha, "files": {
        s.rfilename: {"size": s.size, "oid": s.blob_id, "sha256": s.lfs.sha256 if s.lfs else ""} for s in info.siblings}},
    "meta": {"size": meta.size, "etag": meta.etag, "commit": meta.commit_hash},
    "small": {"size": small.size, "etag": small.etag, "commit": small.commit_hash},
    "refs": {r.ref: r.target_commit for r in refs.branches + refs.tags + refs.pull_requests},
    "models": sorted(m.id for m in api.list_models(author=ask["author"])),
    "public": sorted(m.id for m in anonymous.list_models(author=ask["author"], full=True)),
    "user": api.whoami()["name"],
    "renamed": api.model_info(ask["old"]).id,
    "files": files,
    "snapshot": snapshot_download(ask["repo"], token=token),
    "refusals": {
        "entry": refusal(lambda: hf_hub_download(ask["repo"], ask["missing"], token=token)),
        "revision": refusal(lambda: api.model_info(ask["repo"], revision="nope")),
        "repo": refusal(lambda: api.model_info("acme/none")),
        "anonymous": refusal(lambda: anonymous.model_info("acme/none")),
        "gated": refusal(lambda: get_hf_file_metadata(hf_hub_url(ask["gated"], ask["file"]), token=False)),
        "token": refusal(lambda: HfApi(token="hf_wrong").whoami()),
    },
}, sys.stdout)
