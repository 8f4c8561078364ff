// llama.cpp behind a line of JSON in and a line of JSON out, so that its rounds take turns with ours: see llama.py.
//
//   node llama_peer.mjs FOLDER     the folder into which npm installed node-llama-cpp
//
// One model under one name, each with its own context of so many sequences; one thread. Batches go to llama.cpp as they are, without
// the queue of node-llama-cpp, and every token is chosen greedily. What an answer costs is told by `usage`: CPU seconds of this process.

import {createInterface} from "node:readline";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const entry = join(process.argv[2], "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry).href);
const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, progressLogs: false, maxThreads: 1, logLevel: LlamaLogLevel.error,
    logger: (level, message) => process.stderr.write(`${level}: ${message}\n`)
});

const models = new Map();

const commands = {
    usage: () => {
        const {user, system} = process.cpuUsage();
        return (user + system) / 1e6;
    },

    load: async ({name, path, sequences, context}) => {
        const model = await llama.loadModel({modelPath: path, gpuLayers: 0});
        const made = await model.createContext({sequences, contextSize: context, batchSize: 512, threads: 1, flashAttention: true});
        const sampler = new llama._bindings.AddonSampler(model._model);
        sampler.applyConfig({temperature: 0});
        models.set(name, {model, made, low: made._ctx, sampler, lengths: new Array(sequences).fill(0)});
    },

    unload: async () => {
        for (const {model, made} of models.values()) {
            await made.dispose();
            await model.dispose();
        }
        models.clear();
    },

    // Begin every sequence anew with its prompt; the token that each would go on with.
    prefill: async ({name, prompts}) => {
        const held = models.get(name);
        prompts.forEach((_, sequence) => {
            held.low.disposeSequence(sequence);
            held.lengths[sequence] = 0;
        });
        const chosen = [];
        for (let sequence = 0; sequence < prompts.length; sequence++) {
            const prompt = prompts[sequence];
            for (let start = 0; start < prompt.length; start += 512)
                chosen[sequence] = (await batch(held, [[sequence, prompt.slice(start, start + 512)]]))[0];
        }
        return chosen;
    },

    // One step for each row of tokens, which holds one token of each sequence; the choices after the last step.
    decode: async ({name, rows}) => {
        const held = models.get(name);
        let chosen = [];
        for (const row of rows)
            chosen = await batch(held, row.map((token, sequence) => [sequence, [token]]));
        return chosen;
    }
};

async function batch({low, sampler, lengths}, pieces) {
    low.initBatch(pieces.reduce((sum, [, tokens]) => sum + tokens.length, 0));
    const places = pieces.map(([sequence, tokens]) => {
        const last = Uint32Array.of(tokens.length - 1);
        const [place] = low.addToBatch(sequence, lengths[sequence], Uint32Array.from(tokens), last);
        lengths[sequence] += tokens.length;
        return place;
    });
    await low.decodeBatch();
    const chosen = [];
    for (const place of places)
        chosen.push(await low.sampleToken(place, sampler));
    return chosen;
}

process.stdout.write(JSON.stringify({result: llama.systemInfo}) + "\n");
for await (const line of createInterface({input: process.stdin})) {
    let answer;
    try {
        const {command, ...given} = JSON.parse(line);
        answer = {result: (await commands[command](given)) ?? null};
    } catch (error) {
        answer = {error: String(error?.message ?? error)};
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}
await llama.dispose();
