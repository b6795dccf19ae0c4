import { defineConfig } from 'vite';

// The folder `dist` is what apps/server serves. Assets have their content's hash in their name, so that browsers may keep them.
export default defineConfig({
  root: `${import.meta.dirname}/src`,
  build: {
    outDir: `${import.meta.dirname}/dist`,
    emptyOutDir: true,
    target: 'es2022',
    // The server's policy refuses scripts inside the page; there is one script, so nothing is to be preloaded either.
    modulePreload: false,
  },
});
