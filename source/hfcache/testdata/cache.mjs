// Fills a cache of @huggingface/hub from a Hub.
//
//   node cache.mjs ENDPOINT CACHE

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [hubUrl, cacheDir] = process.argv.slice(2);
const require = createRequire(process.env.MODELFS_CLIENTS + "/js/");
const hub = await import(pathToFileURL(require.resolve("@huggingface/hub")));
console.debug = () => {};

await hub.snapshotDownload({ hubUrl, cacheDir, repo: "acme/whole" });
await hub.downloadFileToCacheDir({ hubUrl, cacheDir, repo: "acme/whole", path: "config.json", revision: "refs/pr/1" });
await hub.downloadFileToCacheDir({ hubUrl, cacheDir, repo: "acme/one", path: "model.gguf" });
await hub.snapshotDownload({ hubUrl, cacheDir, repo: "acme/pinned", revision: readFileSync(0, "utf8").trim() });
