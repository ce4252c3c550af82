// Downloads a model as every program of llama.cpp does that is given -hf, and
// prints where it lies.
//
//     llama-fetch -hf OWNER/REPOSITORY[:TAG]

#include "arg.h"
#include "common.h"

#include <cstdio>

int main(int argc, char ** argv) {
    common_params params;
    if (!common_params_parse(argc, argv, params, LLAMA_EXAMPLE_COMPLETION)) {
        return 1;
    }
    std::printf("%s\n", params.model.path.c_str());
}
