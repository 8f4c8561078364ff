// What can be set: sampling, the form of the answer, sizes of pictures. An empty field leaves it to the server.
import { el } from "./dom.js";
import { t } from "./i18n.js";
import { keep, recall } from "./kept.js";

const KEPT = "params";

/** name: the API's; place: where it goes in the request. */
const NUMBERS = [
  { name: "temperature", place: "body", min: 0, max: 2, step: 0.05 },
  { name: "top_p", place: "body", min: 0, max: 1, step: 0.01 },
  { name: "top_k", place: "body", min: 0, step: 1 },
  { name: "max_tokens", place: "body", min: 1, step: 1 },
  { name: "seed", place: "body", step: 1 },
  { name: "frequency_penalty", place: "body", min: -2, max: 2, step: 0.1 },
  { name: "presence_penalty", place: "body", min: -2, max: 2, step: 0.1 },
  { name: "repetition_penalty", place: "body", min: 0.1, max: 5, step: 0.05 },
  { name: "min_pixels", place: "image", min: 1, step: 1 },
  { name: "max_pixels", place: "image", min: 1, step: 1 },
  { name: "fps", place: "video", min: 0.1, max: 60, step: "any" },
  { name: "max_frames", place: "video", min: 1, step: 1 },
];
const FORMATS = ["text", "json_object", "json_schema", "boxes"];

const EXAMPLE_SCHEMA = JSON.stringify(
  { type: "object", properties: { title: { type: "string" } }, required: ["title"], additionalProperties: false },
  null,
  2,
);

/** @type {Record<string, string>} what the fields say */
let values = {};
try {
  values = JSON.parse(recall(KEPT) ?? "{}");
} catch {
  // Nothing was kept, or nothing that can be read.
}

function set(name, value) {
  if (value === "") delete values[name];
  else values[name] = value;
  keep(KEPT, anySet() ? JSON.stringify(values) : "");
}

const currentFormat = () => (FORMATS.includes(values.format) ? values.format : "text");
export const resetParams = () => Object.keys(values).forEach((name) => set(name, ""));

/** Whether anything differs from the server's defaults. */
export const anySet = () => Object.keys(values).length > 0;

/**
 * The settings as parts of a request. Throws an Error with a line for people if the schema is none.
 * @param {string} [wanted] the form of the answer that a sample wants, unless one is set
 * @returns {{body: Record<string, any>, image: Record<string, number>, video: Record<string, number>, system: string}}
 */
export function readParams(wanted = "text") {
  const params = { body: {}, image: {}, video: {}, system: values.system ?? "" };
  for (const { name, place } of NUMBERS) {
    const value = Number(values[name]);
    if (values[name] !== undefined && Number.isFinite(value)) params[place][name] = value;
  }
  // A clip's bounds are those of its frames.
  for (const name of ["min_pixels", "max_pixels"]) if (name in params.image) params.video[name] = params.image[name];
  const format = values.format ? currentFormat() : wanted;
  if (format === "boxes") params.body.grammar = "boxes";
  if (format === "json_object") params.body.response_format = { type: "json_object" };
  if (format === "json_schema") {
    const json_schema = { name: "answer", schema: parseSchema(values.schema ?? EXAMPLE_SCHEMA), strict: true };
    params.body.response_format = { type: "json_schema", json_schema };
  }
  return params;
}

function parseSchema(text) {
  try {
    const schema = JSON.parse(text);
    if (schema && typeof schema === "object" && !Array.isArray(schema)) return schema;
  } catch {
    // Said below.
  }
  throw new Error(t("error.schema"));
}

/** The fields of the settings, made anew for a change of language. @param {() => void} changed */
export function paramFields(changed) {
  const numbers = (place) => NUMBERS.filter((one) => one.place === place).map((one) => numberField(one, changed));
  const schema = el("label", { class: "field" }, el("span", {}, t("param.schema")), schemaField(changed));
  schema.hidden = currentFormat() !== "json_schema";
  const format = el(
    "select",
    {
      "aria-label": t("param.format"),
      onchange: (event) => {
        set("format", event.target.value === "text" ? "" : event.target.value);
        schema.hidden = currentFormat() !== "json_schema";
        changed();
      },
    },
    FORMATS.map((one) => el("option", { value: one, selected: one === currentFormat() }, t(`format.${one}`))),
  );
  const system = el("textarea", {
    rows: 2,
    value: values.system ?? "",
    oninput: (event) => (set("system", event.target.value), changed()),
  });
  return {
    answer: [
      el("label", { class: "field" }, el("span", {}, t("param.format")), format),
      schema,
      el("label", { class: "field" }, el("span", {}, t("param.system")), system),
      el("div", { class: "fields" }, numbers("body")),
    ],
    pictures: [el("div", { class: "fields" }, numbers("image"), numbers("video"))],
  };
}

function numberField({ name, min, max, step }, changed) {
  const input = el("input", {
    type: "number",
    name,
    min,
    max,
    step,
    inputmode: "decimal",
    placeholder: t("settings.default"),
    value: values[name] ?? "",
    oninput: () => {
      const good = input.validity.valid;
      input.setAttribute("aria-invalid", String(!good));
      set(name, good ? input.value : "");
      changed();
    },
  });
  return el("label", { class: "field" }, el("span", {}, t(`param.${name}`)), input);
}

function schemaField(changed) {
  const field = el("textarea", { rows: 8, class: "mono", spellcheck: "false", value: values.schema ?? EXAMPLE_SCHEMA });
  field.addEventListener("input", () => {
    let good = true;
    try {
      parseSchema(field.value);
    } catch {
      good = false;
    }
    field.setAttribute("aria-invalid", String(!good));
    set("schema", field.value);
    changed();
  });
  return field;
}
