// Collects the licence texts of every package that ended up in the bundle.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";

import { IconsManifest } from "./node_modules/react-icons/lib/iconsManifest.mjs";

const { inputs } = JSON.parse(readFileSync("meta.json", "utf8"));
const names = new Set();
for (const path of Object.keys(inputs)) {
  const found = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) names.add(found[1]);
}
const parts = [...names].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = existsSync(folder) && readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : "(no licence file in the package)";
  return `${name} ${version} (${license})\n\n${text}\n`;
});
// react-icons lists every set that it has: those stay that are in the bundle.
const left = IconsManifest.filter(({ id }) => !(`node_modules/react-icons/${id}/index.mjs` in inputs));
const isLeft = (paragraph) => left.some(({ name }) => paragraph.startsWith(`${name} - `));
const text = parts.join(`\n${"-".repeat(80)}\n\n`)
  .split("\n\n").filter((paragraph) => !isLeft(paragraph)).join("\n\n");
writeFileSync("../static/LICENSES.txt", text);
