// Fills a cache of @huggingface/hub.
//
//   node hf.mjs ENDPOINT CACHE download REPO [REVISION]

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [hubUrl, cacheDir, , repo, revision] = process.argv.slice(2);
const require = createRequire(process.env.MODELFS_CLIENTS + "/js/");
const hub = await import(pathToFileURL(require.resolve("@huggingface/hub")));
console.debug = () => {};
console.log(await hub.snapshotDownload({ hubUrl, cacheDir, repo, ...(revision && { revision }) }));
