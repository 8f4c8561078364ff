// Speaks to the server: the list of models, and one chat completion as a stream of server-sent events.
import { t } from "./i18n.js";
import { keep, recall } from "./kept.js";

/** A refusal, as one line. status: HTTP's, 0 if there was no answer; retryAfter: seconds, if the server said so. */
export class ApiError extends Error {
  constructor(message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const KEY = "api-key";

/** The key lives as long as the tab. */
export const apiKey = () => recall(KEY, "session") ?? "";
export const setApiKey = (key) => keep(KEY, key, "session");

async function request(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}) };
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(t("error.network"));
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  let message = t("error.status", { status: response.status });
  try {
    message = JSON.parse(await response.text()).error.message || message;
  } catch {
    // Not JSON: the status has to do.
  }
  return new ApiError(message, { status: response.status, retryAfter });
}

/** The models of the server, as /v1/models lists them. @returns {Promise<Array<Record<string, any>>>} */
export async function listModels() {
  return (await (await request("v1/models")).json()).data ?? [];
}

/**
 * Asks, and yields the chunks of the answer as they come. Throws ApiError, or AbortError when `signal` is.
 * @param {Record<string, any>} body
 * @param {AbortSignal} signal
 */
export async function* streamChat(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await request("v1/chat/completions", { method: "POST", body: JSON.stringify(asked), signal });
  let ended = false;
  for await (const data of events(response.body, signal)) {
    ended ||= data === "[DONE]";
    if (ended) continue;
    const chunk = JSON.parse(data);
    if (chunk.error) {
      throw new ApiError(chunk.error.message ?? t("error.cut"), { status: Number(chunk.error.code) || 0 });
    }
    yield chunk;
  }
  if (!ended) throw new ApiError(t("error.cut"));
}

/** The data of each server-sent event of a body. */
async function* events(body, signal) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      rest += decoder.decode(value ?? new Uint8Array(), { stream: !done });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = done ? "" : lines.pop();
      // Every event of this interface is one line of data; comments keep the connection open.
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
      if (done) return;
    }
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) throw error;
    throw error instanceof ApiError ? error : new ApiError(t("error.cut"));
  } finally {
    reader.cancel().catch(() => {});
  }
}
