/* A runtime of one operation: batch_norm LAYER < x > y, both float32 with the channels innermost.
   With -DOUTSIDE it adds epsilon to the deviation instead of the variance, a mistake that is often made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_norms.h"

#ifdef OUTSIDE
static void apply(const bn_layer *layer, const bn_real *x, bn_real *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t c = i % layer->channels;
        y[i] = layer->gamma[c] * (x[i] - layer->moving_mean[c])
                   / ((bn_real)sqrt(layer->moving_variance[c]) + layer->epsilon) + layer->beta[c];
    }
}
#else
#define apply bn_apply
#endif

int main(int argc, char **argv)
{
    for (int place = 0; argc == 2 && place < BN_LAYERS; place++) {
        const bn_layer *layer = &bn_layers[place];
        if (strcmp(layer->name, argv[1]) != 0)
            continue;
        bn_real *values = malloc(layer->channels * sizeof *values);
        while (values && fread(values, sizeof *values, layer->channels, stdin) == layer->channels) {
            apply(layer, values, values, layer->channels);
            fwrite(values, sizeof *values, layer->channels, stdout);
        }
        free(values);
        return 0;
    }
    fprintf(stderr, "usage: batch_norm LAYER < x > y\n");
    return 2;
}
