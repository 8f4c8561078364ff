// One answer, from the first chunk to the last: what the stream says is gathered in an Answer.
import { ApiError, streamChat } from "./api.js";
import { shorten } from "./conversation.js";
import { t } from "./i18n.js";

/**
 * Fills `answer` from the server's stream, and calls `changed` on the way. It never throws: what went wrong is in the answer.
 * @param {import("./conversation.js").Answer} answer
 * @param {Record<string, any>} body
 * @param {AbortSignal} signal
 * @param {() => void} changed
 */
export async function gather(answer, body, signal, changed) {
  const began = performance.now();
  let first = 0;
  answer.request = shorten(body);
  try {
    for await (const chunk of streamChat(body, signal)) {
      const choice = chunk.choices?.[0];
      const delta = choice?.delta ?? {};
      if (delta.content) {
        first ||= performance.now();
        answer.state = "writing";
        answer.content += delta.content;
      }
      takeEnd(answer, chunk, choice, delta);
      changed();
    }
    answer.state = "done";
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) answer.state = "stopped";
    else {
      answer.state = "failed";
      const known = error instanceof ApiError;
      answer.error = {
        message: known ? error.message : t("error.cut"),
        status: known ? error.status : 0,
        retryAfter: error.retryAfter ?? 0,
      };
    }
  }
  // The server's own times are better; a stream that was stopped has none.
  answer.timings ??= { ...(first ? { first_token_ms: first - began } : {}), total_ms: performance.now() - began };
  answer.response = asResponse(answer);
  changed();
}

/** What the last chunks carry: on the choice, on its delta or on the chunk. */
function takeEnd(answer, chunk, choice, delta) {
  for (const [name, key] of [
    ["regions", "regions"],
    ["readable", "readable"],
    ["spans", "spans"],
    ["timings", "timings"],
    ["finish", "finish_reason"],
  ]) {
    const value = choice?.[key] ?? delta[key] ?? chunk[key];
    if (value !== undefined && value !== null) answer[name] = value;
  }
  if (chunk.usage) answer.usage = chunk.usage;
  answer.reply ??= { id: chunk.id, model: chunk.model, created: chunk.created };
}

/** The answer as it would have come without a stream. */
function asResponse(answer) {
  if (answer.state === "failed" && !answer.content) return { error: answer.error };
  const message = { role: "assistant", content: answer.content, regions: answer.regions, readable: answer.readable };
  return {
    ...answer.reply,
    object: "chat.completion",
    choices: [{ index: 0, message, finish_reason: answer.finish ?? null }],
    usage: answer.usage,
    timings: answer.timings,
  };
}
