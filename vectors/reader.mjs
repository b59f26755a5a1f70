// Judges an implementation by the vectors: node vectors/reader.mjs vectors/example.mjs
// The module exports `readings`, `settings` and `operations`; README.md describes them.
import { readdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const FLOAT = /^(-?)0x([01])\.?([0-9a-f]*)p([+-]\d+)$/;

/** The value of a hexadecimal float, "nan", "inf" or "-inf"; undefined for any other text. */
export function number(text) {
  const match = FLOAT.exec(text);
  if (!match) return { nan: NaN, inf: Infinity, "-inf": -Infinity }[text];
  const [, sign, whole, fraction, exponent] = match;
  const size = parseInt(whole + fraction, 16) * 2 ** (Number(exponent) - 4 * fraction.length);
  return sign ? -size : size;
}

/** An input: numbers, names, lists and mappings as they are, arrays as {shape, data} with data in row-major order. */
export function decode(x) {
  if (typeof x === "string") return number(x) ?? x;
  if (Array.isArray(x)) return x.map(decode);
  if (x === null || typeof x !== "object") return x;
  if (x.range) return { shape: x.shape, data: [...Array(x.shape.reduce((a, b) => a * b, 1)).keys()] };
  return Object.fromEntries(Object.entries(x).map(([name, item]) => [name, decode(item)]));
}

/** True if every number of a result is within the bound of the expected one. */
function agrees(got, expected) {
  const { shape, data, bound = "0x0p+0" } = { ...expected, ...(expected.range && decode(expected)) };
  const result = typeof got === "object" ? got : { shape: [], data: [got] };
  if (JSON.stringify(result.shape) !== JSON.stringify(shape) || result.data.length !== data.length) return false;
  return data.every((item, i) => {
    const [value, limit] = [decode(item), number(Array.isArray(bound) ? bound[i] : bound)];
    if (value === null) return true;
    return Number.isNaN(value) ? !Number.isFinite(result.data[i]) : Math.abs(result.data[i] - value) <= limit;
  });
}

function judge({ operations, readings, settings }, vector) {
  const chosen = Object.entries(vector.readings).every(([name, options]) => options.includes(readings[name]));
  const same = Object.entries(decode(vector.settings)).every(([name, value]) => settings[name] === value);
  if (!(vector.operation in operations) || !chosen || !same) return "left out";
  const results = operations[vector.operation](decode(vector.inputs), vector.settings);
  const returned = Object.keys(vector.outputs).filter((name) => name in results);
  return returned.length && returned.every((name) => agrees(results[name], vector.outputs[name])) ? "right" : "wrong";
}

const implementation = await import(pathToFileURL(process.argv[2]));
const counts = { right: 0, wrong: 0, "left out": 0 };
const files = readdirSync(new URL(".", import.meta.url)).filter((name) => /^(?!schema).*\.json$/.test(name));
for (const file of files) {
  for (const vector of JSON.parse(readFileSync(new URL(file, import.meta.url), "utf8")).vectors) {
    const verdict = judge(implementation, vector);
    counts[verdict] += 1;
    if (verdict === "wrong") console.log(`wrong: ${vector.id}, ${vector.clause}`);
  }
}
console.log(JSON.stringify(counts));
process.exitCode = counts.wrong || !counts.right ? 1 : 0;
