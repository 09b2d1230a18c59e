// Validates an AsyncAPI document with AsyncAPI's own parser. Usage: node asyncapi.mjs FILE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Installed elsewhere than this file stands.
const { Parser } = createRequire(`${process.cwd()}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const WARNING = 1;
const findings = diagnostics.filter(({ severity }) => severity <= WARNING);
for (const { path, message } of findings) console.log(`${path.join(".")}: ${message}`);
process.exit(document && findings.length === 0 ? 0 : 1);
