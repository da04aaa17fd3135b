// The reference: what /openapi.json says, for people. FastAPI's own page would load its script from another host.

import { ask } from "./asking.js";

function make(tag, ...content) {
  const element = document.createElement(tag);
  element.append(...content);
  return element;
}

function describe({ name, schema, description }) {
  const given = schema.default === undefined || schema.default === null ? "" : ` (${schema.default} without it)`;
  return make("tr", make("td", make("code", name)), make("td", (description ?? "") + given));
}

try {
  const { paths } = await ask("/openapi.json");
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const part = make("section", make("h3", make("code", `${method.toUpperCase()} ${path}`)), make("p", route.summary ?? ""));
      if (route.requestBody) part.append(make("p", route.requestBody.description));
      if (route.parameters) part.append(make("table", make("tbody", ...route.parameters.map(describe))));
      document.getElementById("routes").append(part);
    }
  }
} catch (error) {
  document.getElementById("alert").textContent = error.message;
}
