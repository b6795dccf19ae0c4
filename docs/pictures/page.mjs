// Draws docs/pictures/page-*.png: node docs/pictures/page.mjs
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

// vite, which the server's tests use too, runs their TypeScript.
const server = fileURLToPath(new URL('../../apps/server/', import.meta.url));
const { runnerImport } = await import(pathToFileURL(createRequire(server).resolve('vite')).href);
const { module } = await runnerImport(`${server}test/page/pictures.ts`, { configFile: false, logLevel: 'error' });
const paths = await module.takePictures();
process.stdout.write(`${paths.join('\n')}\n`);
