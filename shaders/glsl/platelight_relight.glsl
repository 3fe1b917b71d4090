/* The BRDF of platelight.shading for the instant preview: Lambert plus Cook-Torrance under a filtered light.
 *
 *   f = albedo / pi + D G F / (4 n.l n.v),  F = f0 + (1 - f0) (1 - l.h)^5,  alpha = roughness^2
 *
 * The split sum with several lobes in place of one. For one angle between n and v and one roughness the lobe D V n.l is
 * a sum of round ones, whose places, widths and weights stand in lobeTable (fit_lobes.py); lightAtlas holds the light
 * blurred by each width (blender_addon/prefilter.py). The light's rotation moves the columns that are read, so that
 * turning filters nothing. Lobes narrower than the finest level are summed over the light's texels, which are in the atlas too.
 * Suns and bulbs are not in it: lightLamps has them, texel by texel and in clusters (prefilter.py, Atlas).
 *
 * Whoever compiles this declares the samplers lightAtlas, lightTiles, lightLamps, lobeTable, albedoTable and the numbers lightTurn (in
 * turns) and lightGain, and defines the PLATELIGHT_... constants of blender_addon/instant_table.py.
 */

#define PLATELIGHT_PI 3.14159265358979
#define PLATELIGHT_MIN_COSINE 0.01
#define PLATELIGHT_MIN_ROUGHNESS 0.1
#define PLATELIGHT_EVEN 0.04
/* Lobes are summed over texels where alpha n.v, their width across the plane of incidence, is below NARROW; up to WIDE in part. */
#define PLATELIGHT_NARROW 0.003
#define PLATELIGHT_WIDE 0.0045
/* The same of alpha alone, for the sake of time: the sum grows with its square. */
#define PLATELIGHT_SHARP 0.016
#define PLATELIGHT_BLUNT 0.0225
/* How far the finest texels are summed, in widths of the half vector's tangent. */
#define PLATELIGHT_REACH 2.5

/* Place on a lat-long picture in [0, 1], row 0 up. */
vec2 platelight_place(vec3 d)
{
  float across = length(d.xz);
  float longitude = across > 1e-9 ? atan(d.x, -d.z) : 0.0;
  return vec2(fract(longitude / (2.0 * PLATELIGHT_PI) + 0.5 - lightTurn), atan(across, d.y) / PLATELIGHT_PI);
}

vec3 platelight_tile(int tile, vec2 place)
{
  vec4 corner = texelFetch(lightTiles, ivec2(tile, 0), 0);
  vec2 at = corner.xy + place * vec2(2.0 * corner.z, corner.z);
  return textureLod(lightAtlas, at / vec2(textureSize(lightAtlas, 0)), 0.0).rgb;
}

/* The light from direction d, blurred by a level that need not be whole. */
vec3 platelight_blurred(vec3 d, float level)
{
  level = clamp(level, 0.0, float(PLATELIGHT_LEVELS - 1) - 0.001);
  int below = int(level);
  vec2 place = platelight_place(d);
  return mix(platelight_tile(below, place), platelight_tile(below + 1, place), level - float(below));
}

/* D V n.l of one direction, for F = 1 and for F = (1 - l.h)^5: as brdf.py. */
vec2 platelight_lamp(vec3 n, vec3 view, float nv, float alpha, vec3 l)
{
  float nl = dot(n, l);
  if (nl <= 0.0) {
    return vec2(0.0);
  }
  float across = sqrt(max(2.0 + 2.0 * dot(l, view), 1e-8));
  float nh = min((nl + nv) / across, 1.0);
  float a2 = alpha * alpha;
  float d = (1.0 - nh * nh) + a2 * nh * nh;
  float to_light = nl * sqrt(nv * nv * (1.0 - a2) + a2);
  float to_view = nv * sqrt(nl * nl * (1.0 - a2) + a2);
  float lobe = a2 / (PLATELIGHT_PI * d * d) * 0.5 / (to_light + to_view) * nl;
  return lobe * vec2(1.0, pow(1.0 - min(0.5 * across, 1.0), 5.0));
}

/* Whether the lobe hardly changes within `radius` of direction d. */
bool platelight_even(vec3 n, vec3 view, float alpha, vec3 d, float radius)
{
  float nl = dot(n, d);
  float across = sqrt(max(2.0 + 2.0 * dot(d, view), 1e-8));
  float nh = (nl + dot(n, view)) / across;
  float wide = (1.0 - nh * nh) + alpha * alpha * nh * nh;
  /* A half vector turns by 1 / across of what its light does. */
  float turn = radius / across;
  return abs(nl) > radius && turn * turn < PLATELIGHT_EVEN * wide;
}

/* Share of the texels of step `level` and finer in a lobe, q = (tan(n.h) / alpha)^2: 1 in the middle, 0 beyond their reach. */
float platelight_window(int level, float q)
{
  float edge = PLATELIGHT_REACH * PLATELIGHT_REACH * exp2(2.0 * float(level));
  float inside = 1.0 - min(q / edge, 1.0) * (q / edge);
  return level < 0 ? 0.0 : max(inside, 0.0) * max(inside, 0.0);
}

/* The sum over the light's own texels of a lobe too narrow for the finest level, as shares of its energy: the middle over the finest
 * texels, each ring about it, twice as far out, over texels twice as large. What lies beyond the last ring is left out. */
void platelight_texels(vec3 n, vec3 view, float nv, float alpha, out vec3 white, out vec3 edge)
{
  vec3 middle = 2.0 * nv * n - view;
  float theta = atan(length(middle.xz), middle.y);
  float phi = length(middle.xz) > 1e-9 ? atan(middle.x, -middle.z) : 0.0;
  vec2 sum = vec2(1e-20);
  white = vec3(0.0);
  edge = vec3(0.0);
  for (int level = 0; level < PLATELIGHT_PYRAMID; level++) {
    ivec3 corner = ivec3(texelFetch(lightTiles, ivec2(PLATELIGHT_LEVELS + 4 + level, 0), 0).xyz + 0.5);
    int columns = 2 * corner.z;
    float step = PLATELIGHT_PI / float(corner.z);
    float radius = 2.0 * atan(alpha * PLATELIGHT_REACH * exp2(float(level)));
    float turned = (phi + PLATELIGHT_PI) / step - lightTurn * float(columns) - 0.5;
    int last = min(int(floor((theta + radius) / step)), corner.z - 1);
    for (int row = max(int(floor((theta - radius) / step)), 0); row <= last; row++) {
      float down = (float(row) + 0.5) * step;
      float reach = (cos(radius) - cos(down) * cos(theta)) / max(sin(down) * sin(theta), 1e-6);
      if (reach >= 1.0) {
        continue;
      }
      /* Towards the poles columns are closer than rows: one stands for several. */
      int stride = int(1.0 / sin(down));
      float half_width = reach <= -1.0 ? 0.5 * float(columns) : acos(reach) / step;
      int begin = int(ceil(turned - half_width));
      int end = min(int(floor(turned + half_width)), begin + columns - 1);
      float solid = float(stride) * 2.0 * step * sin(down) * sin(0.5 * step);
      for (int column = begin; column <= end; column += stride) {
        float longitude = (float(column) + 0.5 + lightTurn * float(columns)) * step - PLATELIGHT_PI;
        vec3 l = vec3(sin(down) * sin(longitude), cos(down), -sin(down) * cos(longitude));
        vec3 h = l + view;
        vec3 off = cross(n, h);
        float along = dot(n, h);
        float q = dot(off, off) / max(along * along * alpha * alpha, 1e-20);
        float share = platelight_window(level, q) - platelight_window(level - 1, q);
        if (along <= 0.0 || share <= 0.0) {
          continue;
        }
        vec2 lobe = share * solid * platelight_lamp(n, view, nv, alpha, l);
        ivec2 at = corner.xy + ivec2(((column % columns) + columns) % columns, row);
        vec3 light = texelFetch(lightAtlas, at, 0).rgb;
        white += lobe.x * light;
        edge += lobe.y * light;
        sum += lobe;
      }
    }
  }
  white /= sum.x;
  edge /= sum.y;
}

vec4 platelight_lobe(int row, vec2 at)
{
  vec2 nodes = vec2(float(PLATELIGHT_ANGLES), float(PLATELIGHT_ROUGHNESSES));
  vec2 texel = vec2(at.x * (nodes.x - 1.0) + 0.5, (float(row) + at.y) * nodes.y - at.y + 0.5);
  return textureLod(lobeTable, texel / vec2(textureSize(lobeTable, 0)), 0.0);
}

/* Directional albedo for F = 1 and for F = (1 - l.h)^5, and the mean Fresnel of the layer, of which f0 = 0.04 is 0. */
vec3 platelight_albedo(float nv, float roughness)
{
  vec2 size = vec2(textureSize(albedoTable, 0));
  vec2 at = vec2(clamp(roughness, 0.0, 1.0), sqrt(clamp(nv, 0.0, 1.0)));
  return textureLod(albedoTable, (at * (size - 1.0) + 0.5) / size, 0.0).rgb;
}

/* Radiance towards the unit vector `view`, by lobe. `layered` dims the diffuse lobe as
 * Principled BSDF does (layer_share of sampling.py). */
void platelight_shade(vec3 normal, vec3 albedo, float roughness, float f0, vec3 view, bool layered, out vec3 diffuse,
                      out vec3 specular)
{
  float facing = dot(normal, view);
  vec3 n = normalize(normal + max(PLATELIGHT_MIN_COSINE - facing, 0.0) * view);
  float nv = clamp(facing, PLATELIGHT_MIN_COSINE, 1.0);
  vec3 tangent = view - dot(n, view) * n;
  float slope = length(tangent);
  tangent = slope > 1e-5 ? tangent / slope : normalize(abs(n.x) < 0.7 ? vec3(1.0 - n.x * n.x, -n.x * n.y, -n.x * n.z) :
                                                                       vec3(-n.x * n.y, 1.0 - n.y * n.y, -n.y * n.z));
  vec3 bitangent = cross(n, tangent);

  float rough = clamp(roughness, PLATELIGHT_MIN_ROUGHNESS, 1.0);
  float alpha = rough * rough;
  float theta = acos(nv);
  vec2 at = vec2(log(1.0 + nv / PLATELIGHT_BEND) / log(1.0 + 1.0 / PLATELIGHT_BEND),
                 log(rough / PLATELIGHT_MIN_ROUGHNESS) / log(1.0 / PLATELIGHT_MIN_ROUGHNESS));
  float scale = 2.0 * min(alpha, 0.5);
  float base = log(alpha / PLATELIGHT_ALPHA) / -log(PLATELIGHT_RATIO);
  vec3 energy = platelight_albedo(nv, roughness);

  vec3 white = vec3(0.0);
  vec3 edge = vec3(0.0);
  vec2 sum = vec2(0.0);
  vec4 beside = vec4(0.0);
  for (int tap = 0; tap < PLATELIGHT_TAPS; tap++) {
    vec4 lobe = platelight_lobe(tap, at);
    float angle = scale * lobe.x - theta;
    vec3 d = cos(angle) * n + sin(angle) * tangent;
    vec3 light;
    if (tap < PLATELIGHT_SINGLES) {
      light = platelight_blurred(d, base + lobe.y);
    }
    else {
      /* Two of a kind, to either side of the plane of incidence. */
      int pair = tap - PLATELIGHT_SINGLES;
      if (pair % 4 == 0) {
        beside = platelight_lobe(PLATELIGHT_TAPS + 2 + pair / 4, at);
      }
      float aside = scale * nv * beside[pair % 4];
      vec3 side = sin(aside) * bitangent;
      light = 0.5 * (platelight_blurred(cos(aside) * d + side, base + lobe.y) +
                     platelight_blurred(cos(aside) * d - side, base + lobe.y));
    }
    white += lobe.z * light;
    edge += lobe.w * light;
    sum += lobe.zw;
  }
  vec4 around_white = platelight_lobe(PLATELIGHT_TAPS, at);
  vec4 around_edge = platelight_lobe(PLATELIGHT_TAPS + 1, at);
  vec2 place = platelight_place(n);
  for (int tile = 0; tile < 4; tile++) {
    vec3 light = platelight_tile(PLATELIGHT_LEVELS + tile, place);
    white += around_white[tile] * light;
    edge += around_edge[tile] * light;
    sum += vec2(around_white[tile], around_edge[tile]);
  }
  /* Under a uniform light the sum is exact. */
  white = max(white / sum.x, vec3(0.0));
  edge = max(edge / sum.y, vec3(0.0));
  float narrow = 1.0 - smoothstep(PLATELIGHT_NARROW, PLATELIGHT_WIDE, alpha * nv);
  narrow *= 1.0 - smoothstep(PLATELIGHT_SHARP, PLATELIGHT_BLUNT, alpha);
  if (narrow > 0.0) {
    vec3 white_texels, edge_texels;
    platelight_texels(n, view, nv, alpha, white_texels, edge_texels);
    white = mix(white, white_texels, narrow);
    edge = mix(edge, edge_texels, narrow);
  }
  white *= energy.x;
  edge *= energy.y;
  vec3 falling = platelight_tile(PLATELIGHT_LEVELS, platelight_place(normal));

  float c = cos(2.0 * PLATELIGHT_PI * lightTurn);
  float s = sin(2.0 * PLATELIGHT_PI * lightTurn);
  int next = 0;
  for (int cluster = 0; cluster < PLATELIGHT_CLUSTERS; cluster++) {
    vec4 middle = texelFetch(lightLamps, ivec2(cluster, 2), 0);
    vec4 power = texelFetch(lightLamps, ivec2(cluster, 3), 0);
    int end = int(middle.w + 0.5);
    if (end <= next) {
      break;
    }
    vec3 d = vec3(middle.x * c - middle.z * s, middle.y, middle.z * c + middle.x * s);
    /* Texels one by one where the lobe or the horizon changes within the cluster. */
    bool whole = platelight_even(n, view, alpha, d, power.w) && abs(dot(normal, d)) > power.w;
    int first = whole ? cluster : next;
    int last = whole ? cluster + 1 : end;
    int row = whole ? 2 : 0;
    for (int lamp = first; lamp < last; lamp++) {
      d = texelFetch(lightLamps, ivec2(lamp, row), 0).xyz;
      power = texelFetch(lightLamps, ivec2(lamp, row + 1), 0);
      d = vec3(d.x * c - d.z * s, d.y, d.z * c + d.x * s);
      vec2 lobe = platelight_lamp(n, view, nv, alpha, d);
      white += lobe.x * power.rgb;
      edge += lobe.y * power.rgb;
      falling += max(dot(normal, d), 0.0) / PLATELIGHT_PI * power.rgb;
    }
    next = end;
  }
  specular = lightGain * (edge + f0 * (white - edge));

  diffuse = lightGain * albedo * falling;
  if (layered) {
    diffuse *= (1.0 - f0) * (1.0 - energy.z);
  }
}
