/** What every run begins with: the model's file, the machine and its limits, the commit. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { hashFile } from '@ctkvr/model-runner';
import { currentCommit, describeMachine } from './machine.js';
import type { ModelFile, ResultHead, RunHead } from './suites/result-head.js';

/** Measures the machine, which takes seconds. */
export async function runHead(): Promise<RunHead> {
  process.stderr.write('measuring what this machine can do; the first time cargo builds something for it\n');
  return {
    date: new Date().toISOString(),
    machine: await describeMachine(),
    commit: await currentCommit(),
  };
}

/** The same, and reads the whole model file. @param modelPath absolute path of the GGUF file. */
export async function modelRunHead(modelPath: string): Promise<ResultHead> {
  return { ...(await runHead()), model: await describeModelFile(modelPath) };
}

async function describeModelFile(modelPath: string): Promise<ModelFile> {
  return {
    name: path.basename(modelPath),
    sizeBytes: (await stat(modelPath)).size,
    sha256: await hashFile(modelPath, 'sha256'),
  };
}
