"""Fills a cache of ModelScope's client.

    modelscope.py ENDPOINT CACHE REPO [PATTERN]
"""

import os
import sys

endpoint, cache, repo, *pattern = sys.argv[1:]
os.environ.update(MODELSCOPE_ENDPOINT=endpoint, MODELSCOPE_CACHE=cache)

from modelscope_hub.compat import snapshot_download  # noqa: E402

print(snapshot_download(repo, allow_patterns=pattern or None))
