// Asks a Hub everything that @huggingface/hub can ask, and prints what it got.
//
//   node client.mjs ENDPOINT TOKEN CACHE  <  the same question as client.py

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [hubUrl, accessToken, cacheDir] = process.argv.slice(2);
const require = createRequire(process.env.MODELFS_CLIENTS + "/js/");
const hub = await import(pathToFileURL(require.resolve("@huggingface/hub")));
const ask = JSON.parse(readFileSync(0, "utf8"));
const common = { hubUrl, accessToken };
console.debug = () => {};

const all = async (items) => {
	const out = [];
	for await (const item of items) out.push(item);
	return out;
};
const refusal = async (call) => {
	try {
		return ["none", (await call()) === null ? 404 : 200];
	} catch (e) {
		return [e.constructor.name, e.statusCode ?? 0];
	}
};
const text = async (repo, path, revision) =>
	(await (await hub.downloadFile({ ...common, repo, path, revision, xet: false })).text());

const tree = await all(hub.listFiles({ ...common, repo: ask.repo, recursive: true }));
const large = await hub.downloadFile({ ...common, repo: ask.repo, path: ask.large, xet: false });
const info = await hub.modelInfo({ ...common, name: ask.repo, additionalFields: ["sha", "siblings"] });
const meta = await hub.fileDownloadInfo({ ...common, repo: ask.repo, path: ask.large });
const paths = await hub.pathsInfo({ ...common, repo: ask.repo, paths: [ask.file, ask.large, ask.missing] });
const models = await all(hub.listModels({ ...common, search: { owner: ask.author } }));

const out = {
	list: tree.filter((e) => e.type === "file").map((e) => e.path).sort(),
	tree: tree.map((e) => e.path).sort(),
	paths: paths.map((e) => e.path).sort(),
	info: { id: info.name, sha: info.sha, files: Object.fromEntries(tree.filter((e) => e.type === "file")
		.map((e) => [e.path, { size: e.size, oid: e.oid, sha256: e.lfs?.oid ?? "" }])) },
	meta: { size: meta.size },
	slice: Buffer.from(await large.slice(1000, 3000).arrayBuffer()).toString("base64"),
	texts: { main: await text(ask.repo, ask.file), commit: await text(ask.repo, ask.file, ask.commit), pr: await text(ask.repo, ask.file, "refs/pr/1"),
		old: await text(ask.old, ask.file), gated: await text(ask.gated, ask.file) },
	models: models.map((m) => m.name).sort(),
	user: (await hub.whoAmI(common)).name,
	files: { large: await hub.downloadFileToCacheDir({ ...common, repo: ask.repo, path: ask.large, cacheDir }) },
	snapshot: await hub.snapshotDownload({ ...common, repo: ask.repo, cacheDir }),
	refusals: {
		entry: await refusal(() => hub.downloadFile({ ...common, repo: ask.repo, path: ask.missing })),
		revision: await refusal(() => hub.modelInfo({ ...common, name: ask.repo, revision: "nope" })),
		repo: await refusal(() => hub.modelInfo({ ...common, name: "acme/none" })),
		anonymous: await refusal(() => hub.modelInfo({ hubUrl, name: "acme/none" })),
		gated: await refusal(() => hub.downloadFile({ hubUrl, repo: ask.gated, path: ask.file })),
		token: await refusal(() => hub.whoAmI({ hubUrl, accessToken: "hf_wrong" })),
	},
};
process.stdout.write(JSON.stringify(out));
